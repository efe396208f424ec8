"""Attributes, globals and closure variables, in ordinary code: no yield, no pause, no point that is marked."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from bugs import guard, pair, together

if TYPE_CHECKING:
    from collections.abc import Iterator


class Record:
    """Something with attributes."""

    def __init__(self, **attributes: Any) -> None:
        vars(self).update(attributes)


@pair("assertion", memory=True)
def attribute_incremented(repaired: bool) -> None:
    """Two hits, of which one is lost."""
    page: Any = Record(hits=0)
    lock = guard(repaired)

    def hit() -> None:
        with lock:
            page.hits += 1

    together(hit, hit)
    assert page.hits == 2


total = 0


@pair("assertion", memory=True)
def global_incremented(repaired: bool) -> None:
    """The same, of a global."""
    global total
    total = 0
    lock = guard(repaired)

    def add() -> None:
        global total
        with lock:
            total += 5

    together(add, add)
    assert total == 10


@pair("assertion", memory=True)
def closure_incremented(repaired: bool) -> None:
    """The same, of a variable of the function around."""
    sent = 0
    lock = guard(repaired)

    def send() -> None:
        nonlocal sent
        with lock:
            sent += 1

    together(send, send)
    assert sent == 2


@pair("assertion", memory=True)
def instances_counted_in_the_class(repaired: bool) -> None:
    """A class counts its instances, each of which is made in a thread of its own."""
    lock = guard(repaired)

    class Connection:
        made = 0

        def __init__(self) -> None:
            with lock:
                Connection.made += 1

    together(Connection, Connection)
    assert Connection.made == 2


@pair("assertion", memory=True)
def text_appended(repaired: bool) -> None:
    """A text is bound anew with each part: one takes the place of the other."""
    log: Any = Record(text="")
    lock = guard(repaired)

    def write(part: str) -> None:
        with lock:
            log.text += part

    together(lambda: write("a"), lambda: write("b"))
    assert sorted(log.text) == ["a", "b"]


@pair("assertion", memory=True)
def toggled_twice(repaired: bool) -> None:
    """On and off again, but both have seen it off."""
    lamp: Any = Record(on=False)
    lock = guard(repaired)

    def toggle() -> None:
        with lock:
            lamp.on = not lamp.on

    together(toggle, toggle)
    assert not lamp.on


@pair("assertion", memory=True)
def overdrawn(repaired: bool) -> None:
    """There was enough for each of them, but not for both."""
    account: Any = Record(balance=100)
    lock = guard(repaired)

    def withdraw(amount: int) -> None:
        with lock:
            if account.balance >= amount:
                account.balance -= amount

    together(lambda: withdraw(60), lambda: withdraw(70))
    assert account.balance >= 0


@pair("assertion", memory=True)
def transfer_seen_halfway(repaired: bool) -> None:
    """Money that has left one account and not come to the other."""
    one: Any = Record(balance=100)
    other: Any = Record(balance=0)
    lock = guard(repaired)
    sums = []

    def transfer() -> None:
        with lock:
            one.balance -= 30
            other.balance += 30

    def audit() -> None:
        with lock:
            sums.append(one.balance + other.balance)

    together(transfer, audit)
    assert sums == [100]


@pair("assertion", memory=True)
def singleton_made_twice(repaired: bool) -> None:
    """None yet: so both make one."""
    lock = guard(repaired)

    class Registry:
        instance: Any = None

        @classmethod
        def get(cls) -> Any:
            with lock:
                if cls.instance is None:
                    cls.instance = cls()
                return cls.instance

    found: list[object] = []
    together(lambda: found.append(Registry.get()), lambda: found.append(Registry.get()))
    assert found[0] is found[1]


@pair("exception", memory=True)
def double_checked_and_published_too_soon(repaired: bool) -> None:
    """The first check is without the lock, and passes as soon as the object is there, before it is filled."""
    lock = threading.Lock()

    class Settings:
        instance: Any = None

    def get() -> Any:
        if Settings.instance is None:
            with lock:
                if Settings.instance is None:
                    settings: Any = Settings()
                    if not repaired:
                        Settings.instance = settings
                    settings.size = 10
                    Settings.instance = settings
        return Settings.instance

    together(lambda: get().size, lambda: get().size)


@pair("assertion", memory=True)
def lazy_value_computed_twice(repaired: bool) -> None:
    """A value that is made at the first use, of which there are two."""
    lock = guard(repaired)

    class Document:
        @property
        def words(self) -> list[str]:
            with lock:
                if not hasattr(self, "_words"):
                    self._words = ["a", "b"]
                return self._words

    document = Document()
    found: list[object] = []
    together(lambda: found.append(document.words), lambda: found.append(document.words))
    assert found[0] is found[1]


@pair("exception", memory=True)
def handler_without_its_routes(repaired: bool) -> None:
    """The server has its handler, the handler not yet its routes."""
    server: Any = Record(handler=None)

    def start() -> None:
        handler: Any = Record()
        if repaired:
            handler.routes = ["/"]
            server.handler = handler
        else:
            server.handler = handler
            handler.routes = ["/"]

    def serve() -> None:
        handler = server.handler
        if handler is not None:
            assert "/" in handler.routes

    together(start, serve)


@pair("exception", memory=True)
def closed_after_the_check(repaired: bool) -> None:
    """Not None when it looked; None when it used it."""
    client: Any = Record(socket=Record(sent=[]))

    def send() -> None:
        if repaired:
            socket = client.socket
            if socket is not None:
                socket.sent.append("hello")
        elif client.socket is not None:
            client.socket.sent.append("hello")

    def close() -> None:
        client.socket = None

    together(send, close)


@pair("assertion", memory=True)
def released_by_the_last_user(repaired: bool) -> None:
    """Each counts itself out, then looks whether it was the last one: both were."""
    resource: Any = Record(users=2, closed=0)
    lock = guard(repaired)

    def leave() -> None:
        with lock:
            resource.users -= 1
            if resource.users == 0:
                resource.closed += 1

    together(leave, leave)
    assert (resource.users, resource.closed) == (0, 1)


@pair("assertion", memory=True)
def point_read_in_parts(repaired: bool) -> None:
    """One coordinate from before the move, the other from after it."""
    point: Any = Record(x=0, y=0, position=(0, 0))
    seen = []

    def move() -> None:
        if repaired:
            point.position = (1, 1)
        else:
            point.x = 1
            point.y = 1

    def look() -> None:
        if repaired:
            seen.append(point.position)
        else:
            seen.append((point.x, point.y))

    together(move, look)
    assert seen[0] in ((0, 0), (1, 1))


@pair("assertion", memory=True)
def swapped_by_two(repaired: bool) -> None:
    """Both fields are exchanged in one statement, which is none."""
    pair_of: Any = Record(left="a", right="b")
    lock = guard(repaired)

    def swap() -> None:
        with lock:
            pair_of.left, pair_of.right = pair_of.right, pair_of.left

    together(swap, swap)
    assert (pair_of.left, pair_of.right) == ("a", "b")


@pair("assertion", memory=True)
def changed_through_a_property(repaired: bool) -> None:
    """The setter locks, the getter locks, and `+=` is one after the other."""
    lock = threading.RLock()
    around = guard(repaired, lock)

    class Thermostat:
        _target = 20

        @property
        def target(self) -> int:
            with lock:
                return self._target

        @target.setter
        def target(self, value: int) -> None:
            with lock:
                self._target = value

    thermostat = Thermostat()

    def warmer() -> None:
        with around:
            thermostat.target += 1

    together(warmer, warmer)
    assert thermostat.target == 22


@pair("assertion", memory=True)
def mean_of_a_sum_and_a_count(repaired: bool) -> None:
    """The sum has the new value, the count not yet."""
    statistics: Any = Record(total=4.0, count=1)
    lock = guard(repaired)
    means = []

    def add() -> None:
        with lock:
            statistics.total += 4.0
            statistics.count += 1

    def mean() -> None:
        with lock:
            means.append(statistics.total / statistics.count)

    together(add, mean)
    assert means == [4.0]


@pair("assertion", memory=True)
def highest_lost(repaired: bool) -> None:
    """Both are higher than what was there; the lower one is written last."""
    score: Any = Record(highest=0)
    lock = guard(repaired)

    def report(value: int) -> None:
        with lock:
            if value > score.highest:
                score.highest = value

    together(lambda: report(1), lambda: report(2))
    assert score.highest == 2


@pair("assertion", memory=True)
def job_started_by_two(repaired: bool) -> None:
    """New when both looked at its state."""
    job: Any = Record(state="new")
    lock = guard(repaired)
    started = []

    def start(worker: str) -> None:
        with lock:
            if job.state != "new":
                return
            job.state = "running"
        started.append(worker)

    together(lambda: start("a"), lambda: start("b"))
    assert len(started) == 1


@pair("assertion", memory=True)
def identifier_given_twice(repaired: bool) -> None:
    """Counted up, then read: by then another one has counted, too."""
    sequence: Any = Record(last=0)
    lock = guard(repaired)
    given = []

    def identify() -> int:
        with lock:
            sequence.last += 1
            return int(sequence.last)

    together(lambda: given.append(identify()), lambda: given.append(identify()))
    assert sorted(given) == [1, 2]


@pair("exception", memory=True)
def generator_entered_twice(repaired: bool) -> None:
    """A generator hands out numbers, and is asked for the next while it makes one."""
    state: Any = Record(last=0)
    lock = guard(repaired)
    given = []

    def numbers() -> Iterator[int]:
        while True:
            state.last += 1
            yield state.last

    sequence = numbers()

    def identify() -> None:
        with lock:
            given.append(next(sequence))

    together(identify, identify)
    assert sorted(given) == [1, 2]


@pair("assertion", memory=True)
def linked_list_insertion(repaired: bool) -> None:
    """Both new nodes point to the old head, and one of them is the new one."""
    stack: Any = Record(head=None)
    lock = guard(repaired)

    def push(value: int) -> None:
        node: Any = Record(value=value, below=None)
        with lock:
            node.below = stack.head
            stack.head = node

    together(lambda: push(1), lambda: push(2))
    values = []
    node = stack.head
    while node is not None:
        values.append(node.value)
        node = node.below
    assert sorted(values) == [1, 2]


@pair("assertion", memory=True)
def copied_on_write_without_a_lock(repaired: bool) -> None:
    """Readers need no lock where each writer puts a new list in place of the old one. Writers do."""
    bus: Any = Record(listeners=())
    lock = guard(repaired)

    def subscribe(name: str) -> None:
        with lock:
            bus.listeners = (*bus.listeners, name)

    together(lambda: subscribe("a"), lambda: subscribe("b"))
    assert sorted(bus.listeners) == ["a", "b"]


@pair("assertion", memory=True)
def version_not_looked_at_again(repaired: bool) -> None:
    """A reader without a lock has to see the same even version before and after."""
    cell: Any = Record(version=0, low=0, high=0)
    seen = []

    def write() -> None:
        cell.version += 1
        cell.low = 1
        cell.high = 1
        cell.version += 1

    def read() -> None:
        version = cell.version
        if version % 2:
            return
        found = (cell.low, cell.high)
        if not repaired or cell.version == version:
            seen.append(found)

    together(write, read)
    assert all(low == high for low, high in seen)


@pair("assertion", memory=True)
def ready_before_the_result(repaired: bool) -> None:
    """The flag says that the result is there, and is set one statement too soon."""
    task: Any = Record(done=False, result=None)
    seen = []

    def compute() -> None:
        if repaired:
            task.result = 42
            task.done = True
        else:
            task.done = True
            task.result = 42

    def poll() -> None:
        if task.done:
            seen.append(task.result)

    together(compute, poll)
    assert seen in ([], [42])


@pair("assertion", memory=True)
def counted_by_three(repaired: bool) -> None:
    """Three visitors, two of whom are counted as one."""
    door: Any = Record(visitors=0)
    lock = guard(repaired)

    def enter() -> None:
        with lock:
            door.visitors += 1

    together(enter, enter, enter)
    assert door.visitors == 3


@pair("assertion", memory=True)
def compared_and_then_written(repaired: bool) -> None:
    """Nothing is locked while it is computed; that the version is the old one is looked at, and then written."""
    document: Any = Record(version=0, text="")
    lock = guard(repaired)

    def commit(version: int, text: str) -> bool:
        with lock:
            if document.version != version:
                return False
            document.version = version + 1
            document.text = text
            return True

    def edit(word: str) -> None:
        while True:
            with lock:
                version, text = document.version, document.text
            if commit(version, text + word):
                return

    together(lambda: edit("a"), lambda: edit("b"))
    assert sorted(document.text) == ["a", "b"]


@pair("assertion", memory=True)
def mutual_exclusion_by_turns(repaired: bool) -> None:
    """Peterson's algorithm on plain fields, with its two first statements exchanged."""
    state: Any = Record(wants=[False, False], turn=0, inside=0)
    crowded = []

    def enter(me: int) -> None:
        if repaired:
            state.wants[me] = True
            state.turn = 1 - me
        else:
            state.turn = 1 - me
            state.wants[me] = True
        while state.wants[1 - me] and state.turn == 1 - me:
            pass
        state.inside += 1
        crowded.append(state.inside > 1)
        state.inside -= 1
        state.wants[me] = False

    together(lambda: enter(0), lambda: enter(1))
    assert not any(crowded)


@pair("assertion", memory=True)
def tokens_refilled_while_taken(repaired: bool) -> None:
    """A bucket of tokens: what one takes is lost in what the other fills in."""
    bucket: Any = Record(tokens=1)
    lock = guard(repaired)
    taken = []

    def take() -> None:
        with lock:
            if bucket.tokens > 0:
                bucket.tokens -= 1
                taken.append(1)

    def refill() -> None:
        with lock:
            bucket.tokens = min(bucket.tokens + 1, 2)

    together(take, take, refill)
    assert bucket.tokens + len(taken) == 2
