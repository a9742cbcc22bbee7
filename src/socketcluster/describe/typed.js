// typed(socket): the official SocketCluster client, version 14 to 20, behind the methods that api.d.ts declares.
export function typed(socket) {
  return typeof socket.invoke === 'function' ? withStreams(socket) : withCallbacks(socket);
}

function withStreams(socket) {
  return {
    socket,
    invoke: (name, data) => socket.invoke(name, data),
    transmit: (name, data) => socket.transmit(name, data),
    publish: async (name, data) => { await socket.invokePublish(name, data); },
    subscribe(name, options) {
      const official = socket.subscribe(name, options);
      return {
        name,
        official,
        unsubscribe: () => { socket.unsubscribe(name); },
        [Symbol.asyncIterator]: () => official[Symbol.asyncIterator](),
      };
    },
  };
}

// Up to version 14 the client calls back.
function withCallbacks(socket) {
  const called = (start) => new Promise((resolve, reject) => {
    start((error, result) => { error ? reject(error) : resolve(result); });
  });
  return {
    socket,
    invoke: (name, data) => called((done) => socket.emit(name, data, done)),
    transmit: async (name, data) => { socket.emit(name, data); },
    publish: async (name, data) => { await called((done) => socket.publish(name, data, done)); },
    subscribe(name, options) {
      const official = socket.subscribe(name, options);
      return {
        name,
        official,
        unsubscribe: () => { socket.unsubscribe(name); },
        [Symbol.asyncIterator]: () => messages(official),
      };
    },
  };
}

function messages(channel) {
  const received = [];
  let wake = null;
  const watcher = (data) => {
    received.push(data);
    if (wake) wake();
  };
  let isOpen = true;
  channel.watch(watcher);
  return {
    async next() {
      while (isOpen && received.length === 0) {
        await new Promise((resolve) => { wake = resolve; });
        wake = null;
      }
      return isOpen ? { value: received.shift(), done: false } : { value: undefined, done: true };
    },
    async return(value) {
      isOpen = false;
      channel.unwatch(watcher);
      if (wake) wake();
      return { value, done: true };
    },
    [Symbol.asyncIterator]() { return this; },
  };
}
