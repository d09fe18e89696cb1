"""What is refused, and that a refusal leaves nothing half done: messages, databases, full disks. FAULTS 11, 53."""
import contextlib
import json
import os
import sqlite3
import subprocess

import pytest

import harness

PROTOCOL, PARSE, TOO_LARGE, INVALID_REQUEST, INVALID_PARAMS = -32001, -32700, -32003, -32600, -32602
METHOD_NOT_FOUND, HELLO_FIRST = -32601, -32002


def still_works(drover):
    assert drover.good('run', '--', 'echo', 'works') == 'works\n'


# -- messages ----------------------------------------------------------------------------------------------------------

def test_another_protocol_is_refused_with_both_numbers(drover):
    drover.start()
    raw = drover.connect(hello=False)
    answer = raw.ask('hello', {'protocol': 999, 'client': 'future'})
    assert answer['error']['code'] == PROTOCOL
    assert '999' in answer['error']['message'] and '1' in answer['error']['message']
    still_works(drover)


def test_hello_comes_first(drover):
    drover.start()
    assert drover.connect(hello=False).ask('status')['error']['code'] == HELLO_FIRST
    still_works(drover)


@pytest.mark.parametrize('line, code', [
    (b'this is no JSON\n', PARSE),
    (b'{"jsonrpc": "2.0", "id": 1, "method": "status"\n', PARSE),
    (b'\xff\xfe{}\n', PARSE),
    (b'{"jsonrpc": "2.0", "id": 1, "id": 2, "method": "status"}\n', PARSE),
    (b'[' * 200 + b']' * 200 + b'\n', PARSE),
    (b'{"jsonrpc": "2.0", "id": 1, "method": "status", "params": {"a": "\\u0000"}}\n', None),
    (b'42\n', None),
    (b'{"id": 1}\n', INVALID_REQUEST),
    (b'{"jsonrpc": "2.0", "id": 1, "method": 7}\n', INVALID_REQUEST),
    (b'{"jsonrpc": "2.0", "id": 1, "method": "no.such", "params": {}}\n', METHOD_NOT_FOUND),
    (b'{"jsonrpc": "2.0", "id": 1, "method": "task.show", "params": {}}\n', INVALID_PARAMS),
    (b'{"jsonrpc": "2.0", "id": 1, "method": "task.show", "params": {"task": 1}}\n', INVALID_PARAMS),
    (b'{"jsonrpc": "2.0", "id": 1, "method": "task.show", "params": {"task": "1", "tsak": 1}}\n', INVALID_PARAMS),
    (b'{"jsonrpc": "2.0", "id": 1, "method": "task.list", "params": {"limit": 1e400}}\n', None),
])
def test_bad_messages_get_a_named_error(drover, line, code):
    drover.start()
    raw = drover.connect()
    raw.send(line)
    answer = raw.answer()
    assert 'error' in answer and answer['error']['message'], answer
    if code is not None:
        assert answer['error']['code'] == code, answer
    still_works(drover)


def test_a_message_over_the_limit(drover):
    drover.start()
    raw = drover.connect()
    with_padding = json.dumps({'jsonrpc': '2.0', 'id': 1, 'method': 'status', 'params': {'a': 'x' * (2 << 20)}}).encode()
    try:
        raw.send(with_padding + b'\n')
    except (BrokenPipeError, ConnectionResetError):
        pass
    answer = raw.answer()
    assert answer is None or answer['error']['code'] == TOO_LARGE
    assert raw.is_ended()
    still_works(drover)


def test_a_line_without_end_does_not_grow_the_daemon(drover):
    pid = drover.start()
    raw = drover.connect()
    before = int(harness.read(f'/proc/{pid}/statm').split()[1])
    try:
        for _ in range(64):
            raw.send(b'x' * (1 << 20))
    except (BrokenPipeError, ConnectionResetError):
        pass
    after = int(harness.read(f'/proc/{pid}/statm').split()[1])
    assert (after - before) * 4096 < 32 << 20
    still_works(drover)


def test_more_connections_than_may_be(drover):
    drover.start()
    path = drover.daemon_status()['socket']
    kept = []
    refused = 0
    for _ in range(80):
        raw = harness.Raw(path, hello=False)
        kept.append(raw)
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            raw.send(b'{"jsonrpc":"2.0","id":1,"method":"hello","params":{"protocol":1}}\n')
    for raw in kept:
        answer = raw.answer()
        refused += answer is None or 'error' in answer
    assert 80 - 64 <= refused < 80
    for raw in kept:
        raw.close()
    harness.wait_until(lambda: drover.run('status').returncode == 0, 20, 'there is room again')
    still_works(drover)


def test_a_client_that_reads_nothing_is_dropped_not_waited_for(drover):
    drover.start()
    raw = drover.connect()
    raw.call('events.subscribe', {})
    for _ in range(3):
        drover.add('true', ':::', *range(100))
    assert drover.run('wait', '--all').returncode == 0
    still_works(drover)


def test_an_open_batch_is_dropped_with_its_connection(drover):
    drover.start()
    raw = drover.connect()
    draft = raw.call('batch.open', {'cwd': drover.work})['draft']
    raw.call('batch.add', {'draft': draft, 'tasks': [{'command': ['touch', 'never']}]})
    raw.close()
    assert drover.tasks() == []
    still_works(drover)


def test_the_same_key_makes_one_batch(drover):
    drover.start()
    answers = []
    for _ in range(2):
        raw = drover.connect()
        draft = raw.call('batch.open', {'cwd': drover.work})['draft']
        raw.call('batch.add', {'draft': draft, 'tasks': [{'command': ['true']}]})
        answers.append(raw.call('batch.commit', {'draft': draft, 'key': 'same'}))
        raw.close()
        pid = drover.kill_daemon()
        drover.wait_daemon(other_than=pid)
    assert answers[0]['first'] == answers[1]['first']
    assert len(drover.tasks()) == 1


# -- the database ------------------------------------------------------------------------------------------------------

def edit_database(drover, statement):
    connection = sqlite3.connect(os.path.join(drover.state, 'drover.db'))
    connection.execute(statement)
    connection.commit()
    connection.close()


def stop(drover):
    drover.good('daemon', 'stop', '--stop-tasks')
    harness.wait_until(lambda: drover.processes() == [], 20, 'all of it has ended')


def test_a_database_of_a_newer_drover(drover):
    drover.good('run', '--', 'true')
    stop(drover)
    connection = sqlite3.connect(os.path.join(drover.state, 'drover.db'))
    known = connection.execute('pragma user_version').fetchone()[0]
    connection.close()
    edit_database(drover, 'pragma user_version = 9999')
    with open(os.path.join(drover.state, 'drover.db'), 'rb') as file:
        before = file.read()
    drover.bad(3, 'run', '--', 'true', says=['newer', '9999'])
    with open(os.path.join(drover.state, 'drover.db'), 'rb') as file:
        assert file.read() == before, 'a refused database was written to'
    edit_database(drover, f'pragma user_version = {known}')
    still_works(drover)
    assert [task['id'] for task in drover.tasks()] == [1, 2]


def test_a_database_replaced_by_something_else(drover):
    drover.good('run', '--', 'true')
    stop(drover)
    harness.write(os.path.join(drover.state, 'drover.db'), 'this is no database, but somebody keeps it here\n' * 100, 0o600)
    drover.bad(3, 'run', '--', 'true', says='drover.db')


def test_a_row_changed_from_outside_is_found(drover):
    drover.good('run', '--name', 'original', '--', 'true')
    stop(drover)
    connection = sqlite3.connect(os.path.join(drover.state, 'drover.db'))
    tables = [row[0] for row in connection.execute("select name from sqlite_schema where type = 'table'")]
    changed = 0
    for table in tables:
        columns = [row[1] for row in connection.execute(f'pragma table_info({table})')]
        if 'name' in columns:
            changed += connection.execute(f"update {table} set name = 'forged' where name = 'original'").rowcount
    connection.commit()
    connection.close()
    assert changed > 0
    drover.bad(3, 'run', '--', 'true', says='drover.db')


# -- words and races ---------------------------------------------------------------------------------------------------

def test_words_too_long_for_a_cause_are_cut_between_characters(drover):
    """A cause cut in the middle of a character once ended the daemon, and each one after it that listed the task."""
    tasks = drover.add('--hold', 'true', ':::', *range(15))
    link = drover.connect()
    for number, task in enumerate(tasks):  # whatever stands before it, some of these are cut inside a character
        link.call('task.cancel', {'tasks': [str(task)], 'reason': 'x' * (number % 3) + '€' * (330 + number)})
        assert '€' in link.call('task.show', {'task': str(task)})['task']['cause']
    link.close()
    assert {task['state'] for task in drover.tasks()} == {'cancelled'}


def test_a_task_cancelled_before_its_process_starts_never_runs(make_drover):
    """Cancelled between the decision to start it and the start: with the keeper gone, as long as that takes."""
    drover = make_drover()
    gate = drover.gate()
    first = drover.shell(gate.wait, '-j', 1)
    drover.wait_state(first, 'running')
    effect = os.path.join(drover.folder, 'effect')
    tasks = drover.add('-j', 8, 'sh', '-c', f'echo {{}} >> {effect}', ':::', *range(40))
    drover.run('cancel', *tasks)
    for task in tasks:
        done = drover.wait_final(task)
        assert done['state'] in ('cancelled', 'succeeded')
    ran = harness.read(effect).split() if os.path.exists(effect) else []
    never = [task for task in tasks if drover.task(task)['attempt'] == 0]
    assert len(ran) <= len(tasks) - len(never)
    gate.open()
    drover.wait_final(first)
