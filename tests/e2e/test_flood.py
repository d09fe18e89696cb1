"""Very many submissions: each acknowledged one exists once, the queue has a limit that is told, others are still served.
FAULTS 25; INV-D1, INV-D2, INV-R1, INV-R2.

In `make check` a dose, under sanitizers. `make soak` runs the same with a release build and 100,000 tasks, and holds it to
the numbers that are promised for that (BENCH P3).
"""
import os
import threading
import time

import pytest

import harness

IS_SOAK = bool(os.environ.get('DROVER_SOAK'))
TASKS = 100_000 if IS_SOAK else 16_000
CLIENTS = 16
QUEUE_FULL = -32014
STATUS_LIMIT_S = 1.0 if IS_SOAK else 3.0  # sanitizers, and other tests at the same time


def memory_bytes(pid):
    """What the process has to itself, shared pages divided."""
    for line in harness.read(f'/proc/{pid}/smaps_rollup').splitlines():
        if line.startswith('Pss:'):
            return int(line.split()[1]) * 1024
    raise AssertionError('no Pss in smaps_rollup')


class Watcher:
    """Asks for `status` over and over on a connection of its own, and remembers the longest answer."""

    def __init__(self, drover):
        self.drover = drover
        self.is_over = threading.Event()
        self.worst_s = 0.0
        self.count = 0
        self.thread = threading.Thread(target=self.look)

    def look(self):
        raw = self.drover.connect()
        while not self.is_over.wait(0.01):
            begin = time.monotonic()
            raw.call('status')
            self.worst_s = max(self.worst_s, time.monotonic() - begin)
            self.count += 1
        raw.close()

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.is_over.set()
        self.thread.join()


def at_once(function, count=CLIENTS):
    """function(0) … function(count − 1) in threads; what they returned, or the first exception."""
    results, faults = [None] * count, []

    def run(number):
        try:
            results[number] = function(number)
        except BaseException as fault:  # pylint: disable=broad-except
            faults.append(fault)
    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if faults:
        raise faults[0]
    return results


def spec(label):
    return {'command': ['true'], 'is_held': True, 'label': label}


def submit(raw, labels, key):
    """One batch over this connection, in messages of at most 500 tasks; its ids."""
    draft = raw.call('batch.open', {'cwd': '/'})['draft']
    for at in range(0, len(labels), 500):
        raw.call('batch.add', {'draft': draft, 'tasks': [spec(label) for label in labels[at:at + 500]]})
    made = raw.call('batch.commit', {'draft': draft, 'key': key})
    assert made['count'] == len(labels)
    return list(range(made['first'], made['first'] + made['count']))


def list_tasks(drover):
    """id → label of all that are known, page by page."""
    raw = drover.connect()
    found, cursor = {}, None
    while True:
        page = raw.call('task.list', {'is_all': True, 'limit': 1000, 'cursor': cursor})
        for task in page['tasks']:
            assert task['id'] not in found, f'{task["id"]} is listed twice'
            found[task['id']] = task['label']
        cursor = page['cursor']
        if cursor is None:
            raw.close()
            return found


def check_kept(drover, acknowledged):
    """Every acknowledged id is there with its label, and nothing else."""
    found = list_tasks(drover)
    assert found == acknowledged, f'{len(found)} tasks are known, {len(acknowledged)} were acknowledged'
    assert drover.json('status')['states']['held'] == len(acknowledged)


@pytest.mark.soak
@pytest.mark.limit(300)
@pytest.mark.parametrize('size', [1, 250], ids=['single', 'batches'])
def test_sixteen_clients_submit_at_once(drover, size):
    """Tasks of their own, or batches; the daemon is killed when all is acknowledged, and the next one knows it all."""
    pid = drover.start()
    before = memory_bytes(pid)
    share = TASKS // CLIENTS if size > 1 or IS_SOAK else TASKS // CLIENTS // 4

    def client(number):
        raw, made = drover.connect(), {}
        for at in range(0, share, size):
            labels = [f'{number}-{i}' for i in range(at, min(at + size, share))]
            made.update(zip(submit(raw, labels, f'{number}/{at}'), labels))
        raw.close()
        return made

    with Watcher(drover) as watcher:
        acknowledged = {}
        for made in at_once(client):
            assert not acknowledged.keys() & made.keys(), 'an id was given twice'
            acknowledged.update(made)
    assert len(acknowledged) == share * CLIENTS
    assert watcher.count > 0 and watcher.worst_s < STATUS_LIMIT_S, f'status took {watcher.worst_s:.2f} s'
    check_kept(drover, acknowledged)
    if IS_SOAK:
        used = memory_bytes(pid) - before
        assert used <= 1024 * len(acknowledged), f'{used / len(acknowledged):.0f} bytes a task'
    drover.kill_daemon()
    drover.wait_daemon(other_than=pid)
    check_kept(drover, acknowledged)


@pytest.mark.soak
@pytest.mark.limit(300)
def test_the_daemon_is_killed_amid_sixteen_clients(drover):
    """Who got no answer asks again with the same key: each batch exists once, whether or not the first try was kept."""
    drover.start()
    share = TASKS // CLIENTS // 4
    half_way = threading.Barrier(CLIENTS + 1)

    def client(number):
        raw, made = drover.connect(), {}
        for at in range(0, share, 10):
            labels = [f'{number}-{i}' for i in range(at, min(at + 10, share))]
            if at >= share // 2 and at - 10 < share // 2:
                half_way.wait(60)
            ids = None
            while ids is None:
                try:
                    ids = submit(raw, labels, f'{number}/{at}')
                except (AssertionError, OSError):  # the connection ended
                    raw.close()
                    drover.wait_daemon(other_than=victim)
                    raw = drover.connect()
            made.update(zip(ids, labels))
        raw.close()
        return made

    victim = drover.daemon_pid()
    killer = threading.Thread(target=lambda: (half_way.wait(60), drover.kill_daemon()))
    killer.start()
    acknowledged = {}
    for made in at_once(client):
        acknowledged.update(made)
    killer.join()
    assert drover.daemon_pid() != victim
    assert sorted(acknowledged.values()) == sorted(f'{n}-{i}' for n in range(CLIENTS) for i in range(share))
    check_kept(drover, acknowledged)


@pytest.mark.soak
@pytest.mark.limit(200)
def test_add_a_file_of_many_lines(drover):
    lines = os.path.join(drover.folder, 'lines')
    harness.write(lines, ''.join(f'value {number}\n' for number in range(TASKS)))
    pid = drover.start()
    before = memory_bytes(pid)
    with Watcher(drover) as watcher:
        begin = time.monotonic()
        ids = drover.add('--hold', '-a', lines, '--', 'echo', '{}', limit_s=120)
        added_s = time.monotonic() - begin
    assert ids == list(range(1, TASKS + 1))
    assert watcher.worst_s < STATUS_LIMIT_S, f'status took {watcher.worst_s:.2f} s'
    assert list(list_tasks(drover).values()) == [f'value {number}' for number in range(TASKS)]
    raw = drover.connect()
    begin = time.monotonic()
    assert len(raw.call('task.list', {'limit': 100})['tasks']) == 100
    page_s = time.monotonic() - begin
    raw.close()
    if IS_SOAK:
        used = memory_bytes(pid)
        print(f'{TASKS} tasks: {added_s:.2f} s, {used >> 20} MiB, a page in {page_s * 1000:.1f} ms, '
              f'status at most {watcher.worst_s * 1000:.0f} ms')
        assert added_s <= 5
        assert used <= 100 << 20 and used - before <= 1024 * TASKS
        assert page_s <= 0.02


# -- the limit ---------------------------------------------------------------------------------------------------------

@pytest.fixture
def limited(make_drover):
    """A drover of which at most 50 tasks may be unfinished."""
    drover = make_drover()
    folder = os.path.join(drover.environment['HOME'], '.config', 'drover')
    os.makedirs(folder)
    harness.write(os.path.join(folder, 'config.yaml'), 'limits:\n  maxQueued: 50\n')
    return drover


def test_over_the_limit_nothing_is_half_made(limited):
    first = limited.add('--hold', 'true', ':::', *range(40))
    batches = limited.json('status')['batches']
    said = limited.bad(75, 'add', '--hold', 'true', ':::', *range(11), says=['queue full, retry after', ' s: ', '50'])
    assert 'maxQueued' in said
    assert limited.json('status')['batches'] == batches
    assert [task['id'] for task in limited.tasks()] == first
    assert limited.add('--hold', 'true', ':::', *range(10)) == list(range(41, 51))
    limited.bad(75, 'run', '--', 'true', says='queue full')
    limited.good('cancel', *first[:3])
    assert limited.add('--hold', 'true', ':::', 1, 2, 3) == [51, 52, 53]
    limited.bad(75, 'add', '--', 'true', says='queue full')


def test_a_batch_that_never_fits_is_told_so(limited):
    """Trying again later would not help, so this is no exit 75."""
    limited.bad(2, 'add', '--hold', 'true', ':::', *range(51), says=['50', 'maxQueued'])
    assert limited.tasks() == []


def test_open_batches_count(limited):
    """Else sixteen clients would each be promised the same room."""
    limited.start()
    raw = limited.connect()
    draft = raw.call('batch.open', {'cwd': '/'})['draft']
    raw.call('batch.add', {'draft': draft, 'tasks': [spec('a')] * 30})
    limited.bad(75, 'add', '--hold', 'true', ':::', *range(21), says='queue full')
    limited.add('--hold', 'true', ':::', *range(20))
    answer = raw.ask('batch.add', {'draft': draft, 'tasks': [spec('b')]})
    assert answer['error']['code'] == QUEUE_FULL and answer['error']['data']['name'] == 'queue-full'
    assert 1 <= answer['error']['data']['details']['retry_after_s'] <= 3600
    raw.close()
    harness.wait_until(lambda: limited.run('add', '--hold', 'true', ':::', *range(30)).returncode == 0, 10,
                       'the room of the dropped batch is free again')
    assert len(limited.tasks()) == 50


def test_sixteen_clients_at_the_limit(limited):
    """Together they get exactly the room there is, in whole batches."""
    limited.start()

    def client(number):
        raw, made = limited.connect(), []
        while True:
            draft = raw.call('batch.open', {'cwd': '/'})['draft']
            answer = raw.ask('batch.add', {'draft': draft, 'tasks': [spec(f'{number}')] * 5})
            if 'error' in answer:
                assert answer['error']['code'] == QUEUE_FULL, answer
                raw.close()
                return made
            made.append(raw.call('batch.commit', {'draft': draft})['first'])
    first = [number for made in at_once(client) for number in made]
    assert sorted(first) == list(range(1, 51, 5))
    assert len(limited.tasks()) == 50


def test_a_refused_message_adds_none_of_its_tasks(limited):
    """The fifth of ten is wrong: the batch has what it had before, and names of the refused ones are free."""
    limited.start()
    raw = limited.connect()
    draft = raw.call('batch.open', {'cwd': '/'})['draft']
    tasks = [dict(spec('x'), name=f'task-{number}') for number in range(10)]
    wrong = [dict(task, retries=-1) if number == 4 else task for number, task in enumerate(tasks)]
    assert 'task 5' in raw.ask('batch.add', {'draft': draft, 'tasks': wrong})['error']['message']
    assert raw.call('batch.add', {'draft': draft, 'tasks': tasks})['count'] == 10
    assert raw.call('batch.commit', {'draft': draft})['count'] == 10
    assert limited.json('status')['states']['held'] == 10
