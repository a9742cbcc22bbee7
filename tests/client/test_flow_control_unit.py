"""Units of the client's flow control: when it pauses, and when it reads on."""

from __future__ import annotations

from socketcluster.client.flow_control import FlowControl
from socketcluster.client.options import ClientOptions
from socketcluster.errors import ResourceLimitError
from socketcluster.streams import StreamDemux


class FakeConnection:
    """Records whether it is read from."""

    def __init__(self) -> None:
        self.reading = True

    def read(self, wanted: bool) -> None:
        self.reading = wanted


class World:
    """Flow control of a client with a limit of 4 values, and a stream that counts."""

    def __init__(self) -> None:
        self.calls: list[int] = []
        self.errors: list[BaseException] = []
        self.control = FlowControl(
            ClientOptions(max_inbound_backlog=4), self.calls, self.errors.append, self.backlog
        )
        self.demux = StreamDemux[int](self.control.gauge)
        self.consumer = self.demux.create_consumer("n")
        self.connection = FakeConnection()

    def backlog(self) -> int:
        return self.consumer.get_backpressure()

    def receive(self, count: int) -> None:
        for number in range(count):
            self.demux.put("n", number)
            self.control.received()

    async def take(self, count: int) -> None:
        for _ in range(count):
            await self.consumer.next()


async def test_it_pauses_past_the_limit_and_resumes_at_half() -> None:
    world = World()
    world.control.connected(world.connection)
    world.receive(4)
    assert world.connection.reading
    world.receive(1)
    assert not world.connection.reading
    await world.take(2)
    assert not world.connection.reading
    await world.take(1)
    assert world.connection.reading


async def test_it_reads_on_for_an_answer_up_to_ten_times_the_limit() -> None:
    world = World()
    world.control.connected(world.connection)
    world.receive(5)
    world.calls.append(1)
    world.control.update()
    assert world.connection.reading
    world.receive(34)
    assert (world.connection.reading, world.errors) == (True, [])
    world.receive(1)
    assert not world.connection.reading
    (error,) = world.errors
    assert isinstance(error, ResourceLimitError)
    world.control.update()
    assert len(world.errors) == 1, "it is reported once per pause"
    await world.take(40)
    assert world.connection.reading


async def test_a_connection_is_not_controlled_before_it_is_open() -> None:
    world = World()
    world.receive(5)
    assert world.connection.reading
    world.control.connected(world.connection)
    assert world.connection.reading
    world.control.update()
    assert not world.connection.reading
    world.control.disconnected()
    await world.take(5)
    assert not world.connection.reading, "a lost connection is left alone"


async def test_other_limits_count_for_later_consumers() -> None:
    world = World()
    world.control.connected(world.connection)
    world.control.configure(ClientOptions(max_inbound_backlog=6))
    world.consumer.return_()
    world.consumer = world.demux.create_consumer("n")
    world.receive(6)
    assert world.connection.reading
    world.receive(1)
    assert not world.connection.reading
