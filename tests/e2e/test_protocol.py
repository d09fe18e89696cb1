"""Whatever is said on the socket: a bounded refusal with a name, and the daemon goes on as it was. FAULTS 53; INV-R1, R2.

What is wrong with a field is made from docs/protocol.schema.json, which comes from the definition: a new method or field is
tried without a line here.
"""
import contextlib
import json
import os
import signal
import socket
import threading

import pytest

import harness
from schema import OF_EACH_TYPE, SCHEMA, example, is_of, params_of, types_of

IS_SOAK = bool(os.environ.get('DROVER_SOAK'))
PARSE, INVALID_REQUEST, METHOD_NOT_FOUND, INVALID_PARAMS = -32700, -32600, -32601, -32602
HELLO_FIRST, TOO_LARGE, TOO_MANY_CLIENTS, NOT_POSSIBLE = -32002, -32003, -32004, -32012
MEMORY_SLACK = (8 if IS_SOAK else 128) << 20  # a sanitizer's own account is part of the process

METHODS = sorted(name for name in SCHEMA['methods'] if name != 'hello')

EXTREMES = {
    'integer': [0, -1, 2 ** 31, -2 ** 31, 2 ** 32, 2 ** 53, 2 ** 63 - 1, -2 ** 63],
    'number': [0, -0.0, -1, 1e308, -1e308, 5e-324, 2 ** 63 - 1],
    'string': ['', ' ', '\n', '-', '/', 'x' * 100_000, '\u202e\u0007\x1b[2J', '€' * 30_000, '../' * 2000, '0', '-1',
               '99999999999999999999999999'],
    'boolean': [True, False],
    'array': [[], [''], ['x'] * 5000, ['=']],
}


def resident_bytes(pid):
    return int(harness.read(f'/proc/{pid}/statm').split()[1]) * os.sysconf('SC_PAGE_SIZE')


class Daemon:
    """A started drover, and the certainty at the end that it is the same process, serves, and has not grown."""

    def __init__(self, drover):
        self.drover = drover
        drover.environment['ASAN_OPTIONS'] += ':quarantine_size_mb=8'  # what was freed may be used again soon
        self.pid = drover.start()
        self.socket = drover.daemon_status()['socket']
        self.before = resident_bytes(self.pid)
        self.tasks = 0  # that it has reason to know at the end

    def check(self):
        assert self.drover.daemon_pid() == self.pid, 'the daemon was ended: ' + self.drover.daemon_log()[-2000:]
        # What was freed is given back within one round of housekeeping.
        harness.wait_until(lambda: resident_bytes(self.pid) - self.before < MEMORY_SLACK + 2048 * self.tasks, 15,
                           f'it shrinks from {resident_bytes(self.pid) >> 20} MiB to what it was, {self.before >> 20}')
        assert self.drover.good('run', '--', 'echo', 'works') == 'works\n'

    def connect(self, hello=True):
        return harness.Raw(self.socket, hello)


@pytest.fixture
def daemon(drover):
    made = Daemon(drover)
    yield made
    made.check()


@pytest.fixture(scope='module')
def shared_daemon():
    """One for all of the parameters of a test that leaves nothing in it."""
    folder = harness.make_folder()
    drover = harness.Drover(folder)
    made = Daemon(drover)
    yield made
    made.check()
    assert drover.stop() == [] and drover.sanitizer_reports() == []
    harness.remove_folder(folder)


# -- requests that are wrong by their definition -----------------------------------------------------------------------

@pytest.mark.parametrize('method', METHODS)
def test_fields_of_wrong_types(shared_daemon, method):
    definition = params_of(method)
    raw = shared_daemon.connect()
    good = {name: example(definition['properties'][name]) for name in definition.get('required', [])}
    tried = 0
    for name, field in definition['properties'].items():
        for value in OF_EACH_TYPE.values():
            if is_of(value, types_of(field)):
                continue
            error = raw.ask(method, dict(good, **{name: value}))['error']
            assert error['code'] == INVALID_PARAMS and error['data']['name'] == 'invalid-params', error
            assert f"'{name}" in error['message'], f'{error} does not name {name}'
            tried += 1
    for name in good:
        error = raw.ask(method, {key: value for key, value in good.items() if key != name})['error']
        assert error['code'] == INVALID_PARAMS and f"'{name}' is missing" in error['message'], error
    error = raw.ask(method, dict(good, tsaks=1))['error']
    assert error['code'] == INVALID_PARAMS and "'tsaks'" in error['message'], error
    for params in (7, [], [good], 'x', True):
        raw.send(json.dumps({'jsonrpc': '2.0', 'id': 0, 'method': method, 'params': params}).encode() + b'\n')
        assert raw.answer()['error']['code'] == INVALID_PARAMS
    assert tried >= 3 * len(definition['properties'])


def test_fields_of_a_task_of_wrong_types(shared_daemon):
    raw = shared_daemon.connect()
    draft = raw.call('batch.open', {'cwd': '/'})['draft']
    for name, field in SCHEMA['$defs']['task_spec']['properties'].items():
        for value in OF_EACH_TYPE.values():
            if is_of(value, types_of(field)):
                continue
            error = raw.ask('batch.add', {'draft': draft, 'tasks': [{'command': ['true']}, {name: value}]})['error']
            assert error['code'] == INVALID_PARAMS and f'tasks[1].{name}' in error['message'], error
    for task in ({}, {'command': []}, {'command': ['']}, {'shell': ''}, {'command': ['a'], 'shell': 'a'}, 7, None, []):
        assert raw.ask('batch.add', {'draft': draft, 'tasks': [task]})['error']['code'] == INVALID_PARAMS
    assert raw.ask('batch.commit', {'draft': draft})['error']['code'] == INVALID_PARAMS, 'nothing is in it'


@pytest.mark.parametrize('method', [name for name in METHODS if name != 'daemon.stop'])
def test_extreme_values(shared_daemon, method):
    """Right by type; whether the answer is an error depends, but there is one, and nothing else comes of it."""
    definition = params_of(method)
    raw = shared_daemon.connect()
    good = {name: example(definition['properties'][name]) for name in definition.get('required', [])}
    if 'draft' in good:
        good['draft'] = raw.call('batch.open', {'cwd': '/'})['draft']
    for name, field in definition['properties'].items():
        for kind in types_of(field) & EXTREMES.keys():
            for value in EXTREMES[kind]:
                answer = raw.ask(method, dict(good, **{name: value}))
                assert 'result' in answer or answer['error']['message'], answer
    assert shared_daemon.drover.json('status')['queued'] == 0
    if method == 'pause':
        raw.call('unpause')


def test_extreme_values_of_a_task(shared_daemon):
    raw = shared_daemon.connect()
    draft = raw.call('batch.open', {'cwd': '/'})['draft']
    for name, field in SCHEMA['$defs']['task_spec']['properties'].items():
        for kind in types_of(field) & EXTREMES.keys():
            for value in EXTREMES[kind]:
                task = {'command': ['true'], name: value}
                answer = raw.ask('batch.add', {'draft': draft, 'tasks': [task if name != 'shell' else {'shell': value}]})
                assert 'result' in answer or answer['error']['message'], answer
    raw.close()


@pytest.mark.parametrize('params', [{'umask': -1}, {'umask': 0o1000}, {'limit': -1}, {'cwd': 'relative'}, {'cwd': ''},
                                    {'cwd': '/' + 'x' * 5000}, {'name': '-x'}, {'name': '7'}, {'worktree': 'maybe'}])
def test_a_batch_out_of_range(shared_daemon, params):
    assert shared_daemon.connect().ask('batch.open', dict({'cwd': '/'}, **params))['error']['code'] == INVALID_PARAMS


@pytest.mark.parametrize('age', [-1, 1e300, -1e300])
def test_an_age_out_of_range(shared_daemon, age):
    """1e300 seconds ago once ended the daemon."""
    assert shared_daemon.connect().ask('clean', {'older_than_s': age})['error']['code'] == INVALID_PARAMS


@pytest.mark.parametrize('setting', ['', 'NAME', '=value'])
def test_a_setting_without_a_name(shared_daemon, setting):
    raw = shared_daemon.connect()
    draft = raw.call('batch.open', {'cwd': '/'})['draft']
    answer = raw.ask('batch.environment', {'draft': draft, 'environment': ['A=1', setting]})
    assert answer['error']['code'] == INVALID_PARAMS


# -- answers that would be too large -----------------------------------------------------------------------------------

def add_tasks(raw, tasks):
    draft = raw.call('batch.open', {'cwd': '/'})['draft']
    for task in tasks:
        raw.call('batch.add', {'draft': draft, 'tasks': [task]})
    return raw.call('batch.commit', {'draft': draft})


def test_tasks_that_fill_a_message_can_be_listed(daemon):
    """Each was taken in a message of nearly a MiB; once `show` could not be answered, nor many of them be cancelled."""
    raw = daemon.connect()
    long = ['x' * 1_040_000, '\x01' * 170_000, '€' * 170_000]
    made = add_tasks(raw, [{'command': ['echo', text], 'is_held': True} for text in long])
    add_tasks(raw, [{'command': ['true'], 'label': 'l' * 1_000_000, 'is_held': True}])
    listed = raw.call('task.list', {})['tasks']
    assert [task['id'] for task in listed] == [1, 2, 3, 4]
    for number, text in enumerate(long):
        shown = listed[number]['command'][1]
        assert shown.endswith('…') and 10_000 < len(shown.encode()) < 20_000 and text.startswith(shown[:-1])
    for number in range(made['first'], made['first'] + 4):
        details = raw.call('task.show', {'task': str(number)})
        assert details['task']['id'] == number
        assert (details['spec'] is None) == (number != 3), 'what takes more than 512 KiB is left out'
    assert 'echo' in daemon.drover.good('show', '1') and 'echo' in daemon.drover.good('ls')
    cancelled = raw.call('task.cancel', {'tasks': ['1', '2', '3', '4'] * 500})
    assert cancelled['count'] == 4 and 0 < len(cancelled['refused']) <= 1000
    assert {task['state'] for task in daemon.drover.tasks()} == {'cancelled'}


def test_a_task_with_very_many_predecessors_can_be_shown(daemon):
    daemon.tasks = 12_000
    raw = daemon.connect()
    draft = raw.call('batch.open', {'cwd': '/'})['draft']
    names = [f'{"n" * 55}-{number}' for number in range(12_000)]
    for at in range(0, len(names), 3000):
        raw.call('batch.add', {'draft': draft, 'tasks': [{'command': ['true'], 'name': name, 'is_held': True}
                                                         for name in names[at:at + 3000]]})
    raw.call('batch.add', {'draft': draft, 'tasks': [{'command': ['true'], 'name': 'last', 'after': names}]})
    raw.call('batch.commit', {'draft': draft})
    shown = raw.call('task.show', {'task': 'last'})
    assert len(shown['after']) == 1000 and shown['wait']['need'] == 12_000
    raw.call('task.cancel', {'is_all': True})


def test_a_reason_kept_with_each_task_has_a_limit(daemon):
    raw = daemon.connect()
    add_tasks(raw, [{'command': ['true'], 'is_held': True}] * 2)
    assert raw.ask('task.cancel', {'is_all': True, 'reason': 'r' * 100_000})['error']['code'] == TOO_LARGE
    assert {task['state'] for task in daemon.drover.tasks()} == {'held'}
    assert raw.call('task.cancel', {'is_all': True, 'reason': 'r' * 4000})['count'] == 2


# -- bytes that are no request -----------------------------------------------------------------------------------------

def in_params(text):
    return b'{"jsonrpc":"2.0","id":1,"method":"task.list","params":{"limit":' + text + b'}}\n'


@pytest.mark.parametrize('line, code', [
    (b'[' * 1_000_000 + b'\n', PARSE),
    (b'{"a":' * 200_000 + b'\n', PARSE),
    (b'[' * 500_000 + b']' * 500_000 + b'\n', PARSE),
    (b'[' + b'[],' * 300_000 + b'[]]\n', PARSE),
    (b'{"jsonrpc":"2.0","id":1,"method":"status","params":{"a":1,"a":2}}\n', PARSE),
    (b'{"jsonrpc":"2.0","jsonrpc":"2.0","id":1,"method":"status"}\n', PARSE),
    (in_params(b'1e400'), PARSE),
    (in_params(b'-1e400'), PARSE),
    (in_params(b'9' * 400), PARSE),
    (in_params(b'9' * 100_000), PARSE),
    (in_params(b'18446744073709551616'), PARSE),
    (in_params(b'0x10'), PARSE),
    (in_params(b'01'), PARSE),
    (in_params(b'NaN'), PARSE),
    (in_params(b'1.5'), INVALID_PARAMS),
    (in_params(b'1e3'), INVALID_PARAMS),
    (in_params(b'-0.0'), INVALID_PARAMS),
    (in_params(b'"\\u0000"'), PARSE),
    (in_params(b'"\\ud800"'), PARSE),
    (in_params(b'"\xc0\x80"'), PARSE),
    (in_params(b'"\xed\xa0\x80"'), PARSE),
    (in_params(b'"\xf4\x90\x80\x80"'), PARSE),
    (in_params(b'"\xff"'), PARSE),
    (in_params(b'"\x00"'), PARSE),
    (in_params(b'"\x01"'), PARSE),
    (in_params(b'"unended'), PARSE),
    (b'\x00' * 1000 + b'\n', PARSE),
    (b'\r\n', PARSE),
    (b'\n', PARSE),
    (b'{"jsonrpc":"2.0","id":1,"method":"status"} {}\n', PARSE),
    (b'{"jsonrpc":"1.0","id":1,"method":"status"}\n', INVALID_REQUEST),
    (b'{"jsonrpc":"2.0","id":1.5,"method":"status"}\n', INVALID_REQUEST),
    (b'{"jsonrpc":"2.0","id":null,"method":"status"}\n', INVALID_REQUEST),
    (b'{"jsonrpc":"2.0","id":"' + b'i' * 129 + b'","method":"status"}\n', INVALID_REQUEST),
    (b'{"jsonrpc":"2.0","method":"status"}\n', INVALID_REQUEST),
    (b'{"jsonrpc":"2.0","id":1,"method":"status","extra":1}\n', INVALID_REQUEST),
    (b'[{"jsonrpc":"2.0","id":1,"method":"status"}]\n', INVALID_REQUEST),
    (b'{"jsonrpc":"2.0","id":1,"method":"' + b'm' * 100_000 + b'"}\n', METHOD_NOT_FOUND),
    (b'{"jsonrpc":"2.0","id":1,"method":"\\u001b[2J"}\n', METHOD_NOT_FOUND),
    (b'{"jsonrpc":"2.0","id":1,"method":"Status"}\n', METHOD_NOT_FOUND),
    (b'{"jsonrpc":"2.0","id":2,"method":"hello","params":{"protocol":1}}\n', INVALID_REQUEST),  # a second time
], ids=lambda value: repr(value[:30] + b'...' + value[-30:]) if isinstance(value, bytes) and len(value) > 80 else None)
def test_lines_that_are_no_request(shared_daemon, line, code):
    """The connection outlives them: a line ends, and the next one counts."""
    raw = shared_daemon.connect()
    raw.send(line)
    answer = raw.answer()
    assert answer['error']['code'] == code, answer
    assert all(byte >= ' ' for byte in answer['error']['message']), 'control characters come back'
    assert len(answer['error']['message']) < 2000
    assert raw.call('status')['queued'] == 0
    raw.close()


@pytest.mark.parametrize('protocol', [0, 2, -1, 2 ** 63 - 1])
def test_other_protocols_are_ended(shared_daemon, protocol):
    raw = shared_daemon.connect(hello=False)
    error = raw.ask('hello', {'protocol': protocol, 'field_of_the_future': {}})['error']
    assert error['data']['name'] == 'wrong-protocol' and str(protocol) in error['message'] and error['data']['hint']
    assert raw.is_ended()


def test_nothing_before_hello(shared_daemon):
    raw = shared_daemon.connect(hello=False)
    for method in METHODS:
        assert raw.ask(method, {})['error']['code'] == HELLO_FIRST
    raw.close()


# -- streams -----------------------------------------------------------------------------------------------------------

def pour(raw, piece, total):
    """Sends `piece` over and over while somebody reads the answers; True when the daemon hung up before `total` bytes."""
    def drain():
        with contextlib.suppress(OSError):
            while raw.socket.recv(1 << 16):
                pass
    reader = threading.Thread(target=drain)
    reader.start()
    sent = 0
    try:
        while sent < total:
            raw.send(piece)
            sent += len(piece)
        return False
    except OSError:
        return True
    finally:
        with contextlib.suppress(OSError):
            raw.socket.shutdown(socket.SHUT_RDWR)
        reader.join()
        raw.close()


STREAM = (1 << 30) if IS_SOAK else (48 << 20)


@pytest.mark.soak
@pytest.mark.limit(300)
def test_a_stream_without_lines_is_cut(daemon):
    assert pour(daemon.connect(), b'{"a":"' + b'x' * 65530, STREAM), 'all of it was taken'
    assert pour(daemon.connect(hello=False), b' ' * 65536, STREAM)


@pytest.mark.soak
@pytest.mark.limit(300)
@pytest.mark.parametrize('piece, share', [
    (b'\xff' * 65535 + b'\n', 2),
    (b'x' * 900_000 + b'\n', 4),
    ((b'[' * 64 + b']' * 64) * 7000 + b'\n', 4),
    (b'{"jsonrpc":"2.0","id":1,"method":"no.such","params":{}}\n' * 1000, 32),
], ids=['binary', 'text', 'nested', 'unknown'])
def test_a_stream_of_wrong_lines_costs_nothing(daemon, piece, share):
    assert not pour(daemon.connect(), piece, STREAM // share), 'the daemon hung up'


def test_ten_thousand_requests_in_one_write(daemon):
    """All are answered, in order, though their answers are more than the queue of a connection may hold."""
    count = 10_000
    raw = daemon.connect()
    lines = b''.join(b'{"jsonrpc":"2.0","id":%d,"method":"status"}\n' % number for number in range(1, count + 1))
    sender = threading.Thread(target=raw.send, args=(lines,))
    sender.start()
    for number in range(1, count + 1):
        answer = raw.answer()
        assert answer['id'] == number and 'result' in answer, answer
    sender.join()
    raw.close()


def test_half_closed_connections(daemon):
    """Who only stops sending still gets its answers, those that wait for a commit too; a line without end is dropped."""
    raw = daemon.connect()
    draft = raw.call('batch.open', {'cwd': '/'})['draft']
    raw.send(b'{"jsonrpc":"2.0","id":101,"method":"batch.add","params":{"draft":%d,"tasks":[{"command":["true"]}]}}\n'
             b'{"jsonrpc":"2.0","id":102,"method":"batch.commit","params":{"draft":%d}}\n'
             b'{"jsonrpc":"2.0","id":103,"method":"stat' % (draft, draft))
    raw.socket.shutdown(socket.SHUT_WR)
    assert raw.answer()['result'] == {'count': 1}
    assert raw.answer()['result']['first'] == 1
    assert raw.line() is None
    raw.close()
    silent = daemon.connect()
    silent.socket.shutdown(socket.SHUT_RD)
    with contextlib.suppress(OSError):
        silent.send(b'{"jsonrpc":"2.0","id":1,"method":"status"}\n' * 1000)
    silent.close()


@pytest.mark.limit(120)
def test_clients_that_never_read(daemon):
    """Requests and events pile up in the sockets, not in the daemon; the others do not wait."""
    stuck = []
    for number in range(20):
        raw = daemon.connect()
        raw.call('events.subscribe', {})
        raw.socket.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                raw.socket.send(b'{"jsonrpc":"2.0","id":%d,"method":"daemon.status"}\n' % number * 500)
        stuck.append(raw)
    assert len(daemon.drover.add('true', ':::', *range(300), limit_s=10)) == 300
    assert daemon.drover.run('wait', '--all', limit_s=60).returncode == 0
    grown = resident_bytes(daemon.pid) - daemon.before
    assert grown < 20 * (4 << 20) + MEMORY_SLACK
    for raw in stuck:
        raw.close()


def test_sixty_four_clients_and_one(daemon):
    kept = [daemon.connect() for _ in range(64)]
    for _ in range(3):
        extra = daemon.connect(hello=False)
        error = extra.answer()['error']
        assert error['code'] == TOO_MANY_CLIENTS and error['data']['name'] == 'too-many-clients' and error['data']['hint']
        assert extra.is_ended()
    daemon.drover.bad(3, 'ls', says=['64', 'connections'])
    assert all(raw.call('status') for raw in kept)
    kept.pop().close()
    harness.wait_until(lambda: daemon.drover.run('status').returncode == 0, 10, 'the free place is given away')
    for raw in kept:
        raw.close()
    harness.wait_until(lambda: daemon.drover.run('status').returncode == 0, 10, 'all places are free')


@pytest.mark.parametrize('number', [signal.SIGKILL, signal.SIGTERM], ids=['KILL', 'TERM'])
def test_a_client_dies_amid_its_batch(daemon, number):
    """Half of the lines of a file are sent, or all but the commit; nothing remains of them."""
    drover = daemon.drover
    lines = os.path.join(drover.folder, 'lines')
    os.mkfifo(lines)
    client = drover.popen('add', '--hold', '-a', lines, '--', 'echo', '{}')
    with open(lines, 'wb', buffering=0) as file:
        file.write(b'value\n' * 2000)
        harness.signal_process(client.pid, number)
        client.communicate()
    drafts = [daemon.connect() for _ in range(20)]
    for raw in drafts:
        draft = raw.call('batch.open', {'cwd': '/', 'name': 'mine'})['draft']
        raw.call('batch.environment', {'draft': draft, 'environment': ['A=' + 'a' * 100_000]})
        raw.call('batch.add', {'draft': draft, 'tasks': [{'command': ['true']}] * 1000})
    for raw in drafts:
        raw.close()
    harness.wait_until(lambda: drover.json('status')['batches'] == 0, 10)
    assert drover.tasks() == []
    assert not os.path.exists(os.path.join(drover.state, 'env')) or os.listdir(os.path.join(drover.state, 'env')) == []


def test_one_subscription_at_a_time_is_answered(daemon):
    """Each gathers thousands of events from the past: many at once would be a way to fill the daemon's memory."""
    daemon.drover.add('true', ':::', *range(50))
    daemon.drover.run('wait', '--all')
    raw = daemon.connect()
    line = b'{"jsonrpc":"2.0","id":%d,"method":"events.subscribe","params":{"after_seq":1}}\n'
    raw.send(b''.join(line % number for number in range(1, 17)))
    answers = {}
    while len(answers) < 16:
        answer = raw.answer()
        if 'id' in answer:
            answers[answer['id']] = answer
    assert 'result' in answers[1]
    assert {answer['error']['code'] for answer in answers.values() if 'error' in answer} <= {NOT_POSSIBLE}
    raw.close()
