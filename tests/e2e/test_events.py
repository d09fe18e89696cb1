"""The event log: read in pages, followed over the daemon's death, without gap or repetition; the daemon does not grow."""
import fcntl
import json
import os
import re
import signal

import pytest

import harness

LINE = re.compile(r'^(\d+) (\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z) #(\d+)( \S+)? \(batch (\d+)\) (.+)$')


def numbers(text):
    return [json.loads(line)['seq'] for line in text.splitlines()]


def memory_of(pid):
    return int(re.search(rb'VmRSS:\s+(\d+)', harness.read_proc(pid, 'status')).group(1)) << 10


def keep_no_freed_memory(drover):
    """Freed memory is memory again also under the address sanitizer."""
    drover.environment['ASAN_OPTIONS'] += ':quarantine_size_mb=1:thread_local_quarantine_size_kb=64'


def many_events(drover, tasks=1250, rounds=8):
    """Queues and cancels held tasks: four or so events for each, fast, since nothing is started."""
    values = [str(number) for number in range(tasks)]
    for _ in range(rounds):
        drover.good('add', '--quiet', '--hold', '--batch', 'crowd', '--', 'true', ':::', *values)
        drover.good('cancel', '--batch', 'crowd')
    return drover.start()


def test_the_words_of_a_line(drover):
    drover.run('run', '--name', 'wrong', '--', 'sh', '-c', 'exit 3')
    lines = [LINE.match(line) for line in drover.good('events').splitlines()]
    assert all(lines), drover.good('events')
    assert [int(line.group(1)) for line in lines] == list(range(1, len(lines) + 1))
    assert {line.group(4) for line in lines} == {' wrong'}
    words = [line.group(6) for line in lines]
    assert words[0] == 'queued' and 'running' in words and re.match(r'failed: exit 3, after \d', words[-1])


def test_json_lines_have_every_field_of_the_definition(drover):
    drover.run('run', '--', 'false')
    with open(os.path.join(harness.ROOT, 'docs', 'protocol.schema.json'), encoding='utf-8') as file:
        fields = set(json.load(file)['$defs']['event']['properties'])
    events = [json.loads(line) for line in drover.good('events', '--json').splitlines()]
    assert events and all(set(event) == fields for event in events)
    assert (events[-1]['kind'], events[-1]['exit_code'], events[-1]['cause']) == ('task.failed', 1, 'exit 1')


@pytest.mark.parametrize('delay', ['0', '1ms'])
def test_attempts_of_the_past_are_told_as_they_were(drover, delay):
    """An event tells how its own attempt ended, not how the task stands now."""
    marker = os.path.join(drover.folder, 'marker')
    script = f'test -e {marker} || {{ : > {marker}; exit 7; }}'
    drover.good('run', '--retries', '1', '--retry-delay', delay, '--', 'sh', '-c', script)
    events = [json.loads(line) for line in drover.good('events', '--json').splitlines()]
    again = [event for event in events if event['kind'] == 'task.queued'][-1]
    assert (again['attempt'], again['cause'], again['exit_code']) == (1, 'exit 7', 7)
    assert again['log_path'].endswith('.1.log') and events[-1]['log_path'].endswith('.2.log')
    assert (events[-1]['kind'], events[-1]['attempt']) == ('task.succeeded', 2)


def test_selectors(drover):
    drover.good('run', '--batch', 'one', '--name', 'a', '--', 'true')
    drover.good('run', '--batch', 'two', '--', 'true', ':::', '1', '2')
    events = [json.loads(line) for line in drover.good('events', '--json').splitlines()]
    of_two = [e['seq'] for e in events if e['batch'] == 2]
    assert numbers(drover.good('events', '--json', '--batch', 'two')) == of_two and of_two
    assert numbers(drover.good('events', '--json', '--task', 'a')) == [e['seq'] for e in events if e['task'] == 1]
    assert len(drover.good('events', '--ends').splitlines()) == 3
    middle = events[len(events) // 2]['seq']
    assert numbers(drover.good('events', '--json', '--since', middle)) == [e['seq'] for e in events if e['seq'] > middle]
    drover.bad(2, 'events', '--batch', 'three', says="there is no batch 'three'")
    drover.bad(2, 'events', '--since', 'x', says='is not a number')


@pytest.mark.limit(120)
def test_more_than_twenty_thousand_events_in_pages(drover):
    """Both ways of reading the past get all of it in order; the daemon needs no more memory for it than for a page."""
    keep_no_freed_memory(drover)
    daemon = many_events(drover)
    before = memory_of(daemon)
    seen = numbers(drover.good('events', '--json'))
    assert len(seen) >= 20000 and seen == list(range(1, len(seen) + 1))
    raw = drover.connect()
    raw.call('events.subscribe', {'after_seq': 0})
    got = [raw.answer()['params']['seq'] for _ in seen]
    assert got == seen
    raw.close()
    assert memory_of(daemon) < before + (16 << 20)


@pytest.mark.limit(120)
def test_subscribers_that_never_read_cost_a_bounded_amount(drover):
    """Sixteen ask for the whole log and for what comes, and read nothing: FAULTS 54, INV-R2."""
    keep_no_freed_memory(drover)
    daemon = many_events(drover)
    idle = [drover.connect() for _ in range(16)]
    for raw in idle:
        raw.send(b'{"jsonrpc":"2.0","id":7,"method":"events.subscribe","params":{"after_seq":0}}\n')
    drover.good('status')
    before = memory_of(daemon)
    live = [drover.connect() for _ in range(16)]
    for raw in live:
        raw.send(b'{"jsonrpc":"2.0","id":7,"method":"events.subscribe","params":{}}\n')
    follower = drover.popen('events', '-f', '--json', '--since', '0')
    assert numbers(follower.stdout.readline().decode()) == [1]
    harness.signal_process(follower.pid, signal.SIGSTOP)
    many_events(drover)
    drover.good('status')
    # 4 MiB may wait for each that listens live before it is told too-slow, 1 MiB and a page for each that reads the past.
    assert memory_of(daemon) < before + 16 * (4 << 20) + (40 << 20)
    assert drover.daemon_pid() == daemon
    # Who reads on after all gets all of the past.
    latest = numbers(drover.good('events', '--json', '--since', 20000))[-1]
    got = 0
    while got < latest:
        message = idle[0].answer()
        if message.get('method') == 'event':
            assert message['params']['seq'] == got + 1
            got += 1
    messages = iter(live[0].answer, None)
    refused = next(message for message in messages if 'error' in message)
    assert refused['error']['data']['name'] == 'too-slow'
    for raw in idle + live:
        raw.close()
    # The program comes back by itself after it was too slow.
    harness.signal_process(follower.pid, signal.SIGCONT)
    assert [json.loads(follower.stdout.readline())['seq'] for _ in range(latest - 1)] == list(range(2, latest + 1))
    follower.send_signal(signal.SIGINT)
    follower.wait(timeout=10)


def test_following_over_the_daemons_death_leaves_nothing_out(drover):
    """kill -9 in the middle of things: what the follower prints is the log, line by line."""
    drover.start()
    follower = drover.popen('events', '-f', '--json', '--since', '0')
    expected = 0
    for _ in range(3):
        drover.add('--', 'true', ':::', *map(str, range(60)))
        pid = drover.kill_daemon()
        drover.wait_daemon(other_than=pid)
        drover.run('wait', '--all')
    expected = numbers(drover.good('events', '--json'))
    got = [json.loads(follower.stdout.readline())['seq'] for _ in expected]
    assert got == expected == list(range(1, len(expected) + 1))
    follower.send_signal(signal.SIGINT)
    follower.wait(timeout=10)


def test_following_waits_for_a_stopped_daemon(drover):
    drover.start()
    follower = drover.popen('events', '-f', '--json')
    drover.good('run', '--', 'true')
    first = json.loads(follower.stdout.readline())
    drover.good('daemon', 'stop')
    drover.good('run', '--', 'true')
    seen = [first['seq']]
    while len(seen) < len(numbers(drover.good('events', '--json'))) - first['seq'] + 1:
        seen.append(json.loads(follower.stdout.readline())['seq'])
    assert seen == list(range(first['seq'], first['seq'] + len(seen)))
    assert follower.poll() is None
    follower.send_signal(signal.SIGINT)
    follower.wait(timeout=10)


def test_a_reader_that_leaves_ends_it_quietly(drover):
    for _ in range(3):
        drover.good('add', '--quiet', '--hold', '--', 'true', ':::', *map(str, range(300)))
    pipe = os.pipe()
    fcntl.fcntl(pipe[1], fcntl.F_SETPIPE_SZ, 4096)
    follower = drover.popen('events', stdout=pipe[1])
    os.close(pipe[1])
    assert os.read(pipe[0], 10)
    os.close(pipe[0])
    assert follower.wait(timeout=20) == -signal.SIGPIPE
    assert follower.stderr.read() == b''


def configure(drover, text):
    folder = os.path.join(drover.folder, 'home', '.config', 'drover')
    os.makedirs(folder)
    harness.write(os.path.join(folder, 'config.yaml'), text)


def test_what_is_no_longer_kept_is_said(drover):
    """By the number of the first and the last event that are gone, to pages, followers, and a reader that was overtaken."""
    configure(drover, 'keep: {events: 6000}\n')
    many_events(drover, rounds=2)  # 5,000 and some: all are kept
    many = numbers(drover.good('events', '--json'))
    assert many[0] == 1
    slow = drover.connect()
    slow.send(b'{"jsonrpc":"2.0","id":7,"method":"events.subscribe","params":{"after_seq":0}}\n')
    many_events(drover, rounds=4)

    def look():
        """The gap, once nothing more is due to be forgotten."""
        lines = drover.good('events', '--json', '--since', '0').splitlines()
        gap = json.loads(lines[0]).get('gap')
        return gap if gap and json.loads(lines[-1])['seq'] - gap['to'] < 6600 else None
    gap = harness.wait_until(look, 30, 'the oldest are forgotten')
    assert gap['from'] == 1 and gap['to'] >= 5000
    kept = numbers(drover.good('events', '--json'))
    assert kept == list(range(gap['to'] + 1, kept[-1] + 1)) and len(kept) >= 6000
    said = drover.run('events', '--since', '7')
    assert f'the events from 8 to {gap["to"]} are no longer kept' in said.stderr
    follower = drover.popen('events', '-f', '--json', '--since', '7')
    assert json.loads(follower.stdout.readline()) == {'gap': {'from': 8, 'to': gap['to']}}
    assert json.loads(follower.stdout.readline())['seq'] == gap['to'] + 1
    follower.send_signal(signal.SIGINT)
    follower.wait(timeout=10)
    last, refused = 0, None
    while refused is None:
        message = slow.answer()
        if 'error' in message:
            refused = message['error']['data']['name']
        elif message.get('method') == 'event':
            assert message['params']['seq'] == last + 1
            last += 1
    assert refused == 'too-slow' and 0 < last < gap['to']
    slow.close()


@pytest.mark.limit(90)
def test_a_past_that_cannot_be_read_is_told(drover):
    """Rows of the log go bad under the daemon: whoever asks for them gets the error, not a subscription with a hole."""
    many_events(drover)  # more than the daemon keeps of the database in memory
    drover.good('daemon', 'stop')
    harness.wait_until(lambda: drover.processes() == [], 20, 'all of it has ended')
    drover.start()
    with open(os.path.join(drover.state, 'drover.db'), 'r+b') as file:
        data = file.read()
        file.seek(0)
        file.write(data.replace(b'task.held', b'task.hell'))
    raw = drover.connect()
    raw.send(b'{"jsonrpc":"2.0","id":7,"method":"events.subscribe","params":{"after_seq":0}}\n')
    drover.add('--hold', '--', 'true')
    last = next(message for message in iter(raw.answer, None)
                if 'error' in message or message.get('params', {}).get('seq', 0) > 20000)
    assert last.get('error', {}).get('data', {}).get('name') == 'store-failed', last
    assert 'cannot be read' in last['error']['message'] and raw.is_ended()
    raw.close()
    drover.bad(1, 'events', '-f', '--json', '--since', '0', says='cannot be read')
