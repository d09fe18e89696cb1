"""Clients in front of something that answers in the daemon's place, wrongly or not at all: they end with a sentence and
status 3, soon, and never crash. FAULTS 53 seen from the other side.
"""
import json
import os
import re
import signal
import socket
import threading

import pytest

import harness
from schema import result_of

PATIENCE_S = 1
LIMIT_S = 25
OVERSIZE = b'{"jsonrpc":"2.0","id":1,"result":"' + b'x' * (2 << 20)


def answer(number, result):
    return json.dumps({'jsonrpc': '2.0', 'id': number, 'result': result}).encode() + b'\n'


def refusal(number, error):
    return json.dumps({'jsonrpc': '2.0', 'id': number, 'error': error}).encode() + b'\n'


def event(**fields):
    return json.dumps({'jsonrpc': '2.0', 'method': 'event', 'params': fields}).encode() + b'\n'


class FalseDaemon:
    """Listens where the lock file says; answers hello as a daemon does, and other methods as `say` does or, beside it, well.

    say(method, number) → bytes to send, None to stay silent, 'end' to close the connection.
    """

    def __init__(self, drover, say, method=None):
        self.say, self.method = say, method
        self.path = os.path.join(drover.state, 'run', 'false.sock')
        os.makedirs(os.path.dirname(self.path), mode=0o700)
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(self.path)
        self.listener.listen(64)
        self.connections = []
        harness.write(os.path.join(drover.state, 'daemon.lock'),
                      f'pid {os.getpid()}\nsocket {self.path}\nversion 9.9.9\n', 0o600)
        self.thread = threading.Thread(target=self.accept)
        self.thread.start()

    def accept(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            self.connections.append(connection)
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def serve(self, connection):
        try:
            for line in connection.makefile('rb'):
                request = json.loads(line)
                said = self.reply(request['method'], request['id'])
                if said == 'end':
                    break
                if said is not None:
                    connection.sendall(said)
        except (OSError, ValueError):
            pass
        finally:
            self.connections.remove(connection)
            connection.close()

    def reply(self, method, number):
        is_meant = method == self.method if self.method else method != 'hello'
        if is_meant:
            return self.say(method, number)
        result = result_of(method)
        return answer(number, dict(result, protocol=1) if method == 'hello' else result)

    def close(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.thread.join()
        for connection in list(self.connections):
            connection.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def false_daemon(drover):
    made = []
    drover.environment['DROVER_PATIENCE'] = str(PATIENCE_S)

    def make(say, method=None):
        made.append(FalseDaemon(drover, say, method))
        return made[-1]
    yield make
    for daemon in made:
        daemon.close()
    assert drover.count_running('drover-daemon') == 0, 'a daemon was started beside the one that answers'


def ends_well(drover, *arguments, status=3, **more):
    """It says why in words that no terminal obeys, and does not take long."""
    done = drover.run(*arguments, limit_s=LIMIT_S, **more)
    assert done.returncode == status, f'{done.returncode}: {done.stdout[-300:]} {done.stderr[-600:]}'
    assert re.search(r'^drover: \S+ \S+ \S+', done.stderr, re.M), f'no sentence: {done.stderr!r}'
    assert len(done.stderr) < 8000 and not re.search('[\x00-\x08\x0b-\x1f\x7f]', done.stderr), repr(done.stderr)
    return done.stderr


NONSENSE = {
    'garbage': lambda method, number: b'\x00\xff\xfe this is no JSON\n',
    'oversize': lambda method, number: OVERSIZE,
    'oversize line': lambda method, number: OVERSIZE + b'"}\n',
    'deep': lambda method, number: b'[' * 100_000 + b'\n',
    'list': lambda method, number: b'[]\n',
    'object': lambda method, number: b'{}\n',
    'duplicate keys': lambda method, number: b'{"jsonrpc":"2.0","id":1,"id":1,"result":{}}\n',
    'another id': lambda method, number: answer(number + 1000, result_of(method)),
    'id before': lambda method, number: answer(number - 1, {}),
    'id text': lambda method, number: answer(str(number), result_of(method)),
    'huge id': lambda method, number: b'{"jsonrpc":"2.0","id":%d,"result":{}}\n' % 10 ** 30,
    'twice': lambda method, number: answer(number + 1, result_of(method)) * 2,
    'no result': lambda method, number: b'{"jsonrpc":"2.0","id":%d}\n' % number,
    'null': lambda method, number: answer(number, None),
    'number': lambda method, number: answer(number, 5),
    'text': lambda method, number: answer(number, 'x'),
    'result list': lambda method, number: answer(number, []),
    'error text': lambda method, number: refusal(number, 'wrong'),
    'error null': lambda method, number: b'{"jsonrpc":"2.0","id":%d,"error":null}\n' % number,
    'false event': lambda method, number: event(seq='one', at=1, kind=None),
    'event list': lambda method, number: b'{"jsonrpc":"2.0","method":"event","params":[]}\n',
    'events without end': lambda method, number: event(seq=1, at='x', kind='x') * 100_000,
    'connection error': lambda method, number: b'{"jsonrpc":"2.0","id":null,"error":7}\n',
    'end': lambda method, number: 'end',
    'half a line': lambda method, number: None if number > 10 ** 9 else b'{"jsonrpc":"2.0",',
    'silence': lambda method, number: None,
}


@pytest.mark.parametrize('what', NONSENSE)
@pytest.mark.parametrize('where', ['hello', None], ids=['hello', 'after'])
def test_nonsense(drover, false_daemon, what, where):
    false_daemon(NONSENSE[what], where)
    ends_well(drover, 'status')


COMMANDS = [['ls'], ['show', '1'], ['why', '1'], ['run', '--', 'true'], ['add', '--', 'true'], ['wait', '--all'],
            ['logs', '1'], ['cancel', '1'], ['events', '-f'], ['daemon', 'status'], ['clean', '--all'], ['retry', '1']]


@pytest.mark.parametrize('command', COMMANDS, ids=' '.join)
def test_every_command_ends(drover, false_daemon, command):
    """Whatever it does with what it learns, it does nothing with what it does not."""
    daemon = false_daemon(None)
    for what in ('garbage', 'number', 'end', 'silence'):
        daemon.say = NONSENSE[what]
        ends_well(drover, *command)


def wrong_fields():
    """For each method that a command shows, a result of which one field has another type, or is missing."""
    for method, command in [('status', ['status']), ('daemon.status', ['daemon', 'status']), ('task.list', ['ls']),
                            ('task.show', ['show', '1']), ('batch.commit', ['add', '--', 'true']),
                            ('batch.open', ['add', '--', 'true']), ('task.cancel', ['cancel', '1'])]:
        for name in result_of(method):
            yield pytest.param(method, command, name, id=f'{method}-{name}')


@pytest.mark.parametrize('method, command, name', wrong_fields())
def test_results_of_another_shape(drover, false_daemon, method, command, name):
    good = result_of(method)
    shapes = [{key: value for key, value in good.items() if key != name}]
    if name != 'states':  # may be anything
        shapes.append(dict(good, **{name: [[]]}))
    daemon = false_daemon(None, method)
    for shape in shapes:
        daemon.say = lambda _, number, shape=shape: answer(number, shape)
        assert name in ends_well(drover, *command)


def test_a_task_of_another_shape_in_a_list(drover, false_daemon):
    """Deep inside: such a task once was taken apart without a look."""
    page = {'tasks': [{'id': 1, 'command': [None, {}]}], 'cursor': None}
    false_daemon(lambda _, number: answer(number, page), 'task.list')
    assert 'tasks[0].' in ends_well(drover, 'ls')


def test_fields_of_a_later_version_are_passed_over(drover, false_daemon):
    def later(_, number):
        return b'{"jsonrpc":"2.0","method":"of.the.future","params":{}}\n' + \
            answer(number, dict(result_of('status'), of_the_future={'a': [1]}))
    false_daemon(later, 'status')
    assert 'slots' in drover.good('status')


def test_another_protocol(drover, false_daemon):
    """Refused by it, or only seen by us: both name the numbers and what to do."""
    daemon = false_daemon(lambda _, number: refusal(number, {'code': -32001, 'message': 'protocol 7 here',
                                                             'data': {'name': 'wrong-protocol'}}), 'hello')
    assert 'daemon restart' in ends_well(drover, 'ls')
    daemon.say = lambda _, number: answer(number, dict(result_of('hello'), protocol=7))
    said = ends_well(drover, 'ls')
    assert 'protocol 7' in said and 'daemon restart' in said


def test_errors_with_anything_in_them(drover, false_daemon):
    """Numbers nobody knows, texts that would steer the terminal, hints of a megabyte."""
    daemon = false_daemon(None, 'task.list')
    for error, status in [({'code': -32014, 'message': 'it is full \x1b[2J\x07\x9b', 'data': {'hint': '\x1b]0;x\x07'}}, 75),
                          ({'code': 'x', 'message': 5, 'data': ['a']}, 1),
                          ({}, 1), ({'code': 2 ** 40, 'message': 'x y z'}, 1),
                          ({'code': -32010, 'message': 'a message ' * 90_000, 'data': {'hint': 'h' * 100_000}}, 2)]:
        daemon.say = lambda _, number, error=error: refusal(number, error)
        ends_well(drover, 'ls', status=status)


def test_a_daemon_that_ends_at_each_request_is_not_ended_for_ever(drover, false_daemon):
    """What ends one daemon would end the next one too: a call is tried again a few times only."""
    asked = []
    false_daemon(lambda method, number: (asked.append(method), 'end')[1], 'task.list')
    ends_well(drover, 'ls')
    assert 2 <= len(asked) <= 10


def test_a_slow_daemon_is_waited_for(drover, false_daemon):
    """It does not commit, but it tells its status: so it lives, and the answer will come."""
    numbers, asked = [], threading.Event()

    def say(method, number):
        if method == 'batch.commit':
            numbers.append(number)
            return None
        if method == 'status' and numbers:
            asked.set()
            if say.probes == 2:
                return answer(number, result_of('status')) + answer(numbers[0], dict(result_of('batch.commit'), first=5,
                                                                                       count=1))
            say.probes += 1
        return answer(number, result_of(method))
    say.probes = 0
    false_daemon(say)
    assert drover.good('add', '--', 'true', limit_s=LIMIT_S).split() == ['5']
    assert asked.is_set() and say.probes == 2


def test_a_false_daemon_of_another_user(drover):
    """The client looks who is at the other end before it says anything."""
    if os.geteuid() != 0:
        pytest.skip('only root can make a socket of another user')
    heard = os.path.join(drover.folder, 'heard')
    path = os.path.join(drover.state, 'run', 'other.sock')
    os.makedirs(os.path.dirname(path), mode=0o700)
    harness.write(heard, '', 0o666)
    ours, theirs = os.pipe()
    pid = os.fork()
    if pid == 0:
        out = os.open(heard, os.O_WRONLY)
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(path)
        os.setresuid(65534, 65534, 65534)  # SO_PEERCRED tells who called listen()
        listener.listen(8)
        os.write(theirs, b'x')
        while True:
            connection, _ = listener.accept()
            os.write(out, connection.recv(1000))
    try:
        assert os.read(ours, 1) == b'x'
        harness.write(os.path.join(drover.state, 'daemon.lock'), f'pid {pid}\nsocket {path}\nversion 9\n', 0o600)
        for command in (['ls'], ['add', '--', 'true'], ['daemon', 'status']):
            assert 'another user' in ends_well(drover, *command)
    finally:
        harness.signal_process(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(ours)
        os.close(theirs)
    assert harness.read(heard) == '', 'something was said to a stranger'
