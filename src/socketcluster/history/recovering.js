// recovering(socket): the official SocketCluster client, version 14 to 20, receives each publish of a channel with
// history once, over all reconnections: const recover = recovering(socket); socket.subscribe(name, recover(name));
export function recovering(socket, onLost = () => {}) {
  const places = Object.create(null); // By channel: the epoch, offset and since of its newest publish.
  const asked = Object.create(null); // The channels whose recovery is not answered.

  function receive(packet) {
    const { event, rid, data } = packet || {};
    if (!data) return;
    if (event === '$positions') {
      Object.assign(places, data);
    } else if (event === '#publish') {
      if (places[data.channel] && data.offset) places[data.channel].offset = data.offset;
    } else if (event === '$gap') {
      onLost(data.channel);
    } else if (rid && 'recovered' in data) {
      for (const channel of Object.keys(asked).filter((name) => places[name].since === data.since)) {
        delete asked[channel];
        if (!data.recovered) onLost(channel);
      }
    }
  }

  function read(message) {
    if (typeof message === 'string' && !/"(#publish|\$positions|\$gap|recovered)"/.test(message)) return;
    [].concat(socket.decode(message)).forEach(receive);
  }

  if (socket.listener) (async () => { for await (const { message } of socket.listener('message')) read(message); })();
  else socket.on('message', read); // Up to version 14.

  return (channel, data) => ({ data: { ...data, $gap: true, get $recover() {
    if (places[channel]) asked[channel] = true;
    return places[channel] || null;
  } } });
}
