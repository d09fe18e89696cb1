"""Nothing is left: disk, inodes, descriptors, processes, memory. What runs goes on, nothing is lost, nothing runs twice,
what is refused says why, `status` answers, and when there is room again drover goes on by itself."""
import contextlib
import os
import re
import resource
import select
import signal
import subprocess
import time

import pytest

import harness

STATUS_LIMIT_S = 1.0
TOO_MANY_CLIENTS = -32004


def check_status(drover):
    """`status` answers at once, whatever is short. Measured at the socket: the client's start is not what is promised."""
    path = drover.daemon_status()['socket']
    link = harness.Raw(drover.outside(path) if hasattr(drover, 'outside') else path)
    begin = time.monotonic()
    status = link.call('status')
    took = time.monotonic() - begin
    link.close()
    assert took < STATUS_LIMIT_S, f'status took {took:.2f} s'
    return status


def still_works(drover):
    assert drover.good('run', '--', 'echo', 'still here') == 'still here\n'


# -- disk and inodes ---------------------------------------------------------------------------------------------------

@contextlib.contextmanager
def mounted(drover, options, below=''):
    """A small file system in the drover's state directory, or below it, in a mount namespace of its own."""
    if not harness.can_mount():
        pytest.skip('no permission for a mount namespace with a small file system in it')
    place = os.path.join(drover.state, below)
    script = f"mkdir -p '{place}' && mount -t tmpfs -o {options},mode=700 small '{place}' && echo ready && exec cat"
    holder = subprocess.Popen(['unshare', '-m', '--propagation', 'private', 'sh', '-c', script], stdin=subprocess.PIPE,
                              stdout=subprocess.PIPE)
    assert holder.stdout.readline() == b'ready\n'
    drover.before = ['nsenter', '-m', '-t', str(holder.pid), '--wd=' + drover.work, '--']
    drover.inside = f'/proc/{holder.pid}/root{place}'
    drover.outside = lambda path: f'/proc/{holder.pid}/root{path}'
    try:
        yield drover
    finally:
        with contextlib.suppress(Exception):
            drover.run('daemon', 'stop', '--stop-tasks')
            harness.wait_until(lambda: drover.processes() == [], 20, 'all of it has ended')
        drover.before = []
        holder.communicate()


def fill(drover):
    """Takes all the room; returns what to call in order to give it back."""
    path = os.path.join(drover.inside, 'filler')
    with open(path, 'wb', buffering=0) as file:
        for size in (1 << 16, 1 << 12):
            with contextlib.suppress(OSError):
                while True:
                    file.write(b'x' * size)
    return lambda: os.unlink(path)


def fill_inodes(drover):
    folder = os.path.join(drover.inside, 'fillers')
    os.mkdir(folder)
    names = []
    with contextlib.suppress(OSError):
        while True:
            names.append(os.path.join(folder, str(len(names))))
            os.close(os.open(names[-1], os.O_WRONLY | os.O_CREAT))
    return lambda: [os.unlink(name) for name in names if os.path.exists(name)]


def wait_full(drover):
    """The daemon has found out."""
    def look():
        return [text for text in check_status(drover)['problems'] if 'goes on by itself' in text]
    return harness.wait_until(look, 20, 'a commit found the disk full')


@pytest.mark.limit(120)
@pytest.mark.parametrize('options, take, word', [('size=12m', fill, 'free'),
                                                 ('size=40m,nr_inodes=90', fill_inodes, 'inodes')])
@pytest.mark.parametrize('meanwhile', ['nothing', 'kill', 'stop'])
def test_full_state_directory(make_drover, options, take, word, meanwhile):
    """Full while tasks run: ends are kept, also over a kill -9 or a stop, and it goes on by itself."""
    drover = make_drover()
    with mounted(drover, options):
        gate, ran = drover.gate(), os.path.join(drover.folder, 'ran')
        ends = [drover.shell(f'echo {code} >> {ran}; {gate.wait}; exit {code}', '-j', 3) for code in (5, 0, 7)]
        later = drover.shell(f'echo later >> {ran}')
        for task in ends:
            drover.wait_state(task, 'running')
        pid, before = drover.daemon_pid(), [task['id'] for task in drover.tasks()]
        make_room = take(drover)
        error = drover.bad(1, 'add', '--', 'sh', '-c', f'echo refused >> {ran}',
                           says=('disk full', drover.state, 'this needs'))
        assert word in error
        assert check_status(drover)['running'] == 3
        gate.open()
        harness.wait_until(lambda: check_status(drover)['running'] <= 1, 20, 'the daemon knows of the ends')
        if take is fill:
            wait_full(drover)
            drover.bad(1, 'add', '--', 'true', says='disk full')
        if meanwhile != 'nothing':
            if meanwhile == 'kill':
                drover.kill_daemon()
            else:
                drover.good('daemon', 'stop')
                drover.start()
            pid = drover.wait_daemon(other_than=pid)
            drover.bad(1, 'add', '--', 'true', says='disk full')
            check_status(drover)
        assert [task['id'] for task in drover.tasks()] == before
        make_room()
        done = [drover.wait_final(task) for task in [*ends, later]]
        assert [(task['exit_code'], task['attempt']) for task in done] == [(5, 1), (0, 1), (7, 1), (0, 1)]
        assert sorted(harness.read(ran).split()) == ['0', '5', '7', 'later']
        still_works(drover)
        assert drover.daemon_pid() == pid
        assert [task['id'] for task in drover.tasks()][:len(before)] == before
        drover.good('daemon', 'restart')
        drover.wait_daemon(other_than=pid)
        assert [(drover.task(task)['exit_code'], drover.task(task)['attempt']) for task in ends] == [(5, 1), (0, 1), (7, 1)]


@contextlib.contextmanager
def injected(drover, pid, *rules):
    """strace puts errors into system calls of a process while the block runs."""
    log = os.path.join(drover.folder, 'strace')
    tracer = subprocess.Popen(['strace', '-f', '-qq', '-o', log, '-p', str(pid), *rules], stdin=subprocess.DEVNULL,
                              stderr=subprocess.PIPE)
    try:
        def is_traced():
            threads = os.listdir(f'/proc/{pid}/task')
            return all(b'TracerPid:\t0' not in harness.read_proc(pid, f'task/{thread}/status') for thread in threads)
        harness.wait_until(lambda: tracer.poll() is not None or is_traced(), 10, 'strace has attached')
        if tracer.poll() is not None:
            pytest.skip(f'strace cannot attach here: {tracer.stderr.read().decode().strip()}')
        yield log
    finally:
        tracer.terminate()
        tracer.wait()
        tracer.stderr.close()


@pytest.mark.limit(90)
@pytest.mark.parametrize('error', ['ENOSPC', 'EDQUOT'])
def test_no_room_found_at_the_commit(make_drover, error):
    """What df promised is not there (a quota, or somebody was faster): the submission is refused, nothing of it stays."""
    drover = make_drover(environment={'ASAN_OPTIONS': 'detect_leaks=0'})
    gate, ran = drover.gate(), os.path.join(drover.folder, 'ran')
    running = drover.shell(f'{gate.wait}; exit 5')
    drover.wait_state(running, 'running')
    pid = drover.daemon_pid()
    batch = '{tasks: [{id: a, run: "echo a >> %s"}, {id: b, run: "echo b >> %s", after: a}, {id: c, run: ":", after: b}]}'
    path = harness.write(os.path.join(drover.folder, 'batch.yaml'), batch % (ran, ran))
    wal = os.path.join(drover.state, 'drover.db-wal')
    with injected(drover, pid, '-P', wal, '-e', 'trace=pwrite64', '-e', f'inject=pwrite64:error={error}') as log:
        drover.bad(1, 'add', '-f', path, says='disk full')
        assert 'INJECTED' in harness.read(log)
        drover.bad(1, 'add', '--', 'true', says='disk full')
        wait_full(drover)
        assert [task['id'] for task in drover.tasks()] == [running]
        gate.open()
        drover.wait_final(running)
    assert drover.wait_final(running)['exit_code'] == 5
    harness.wait_until(lambda: check_status(drover)['problems'] == [], 20, 'the commit was tried again')
    still_works(drover)
    added = drover.add('-f', path)
    assert drover.run('wait', *added).returncode == 0
    assert drover.daemon_pid() == pid and check_status(drover)['problems'] == []
    assert harness.read(ran).split() == ['a', 'b']
    drover.good('daemon', 'restart')
    drover.wait_daemon(other_than=pid)
    listed = [task['id'] for task in drover.tasks()]
    assert listed[0] == running and listed[2:] == added and len(listed) == 5


@pytest.mark.limit(60)
def test_tasks_are_cancelled_and_cleaned_on_a_full_disk(make_drover):
    drover = make_drover()
    with mounted(drover, 'size=12m'):
        old = drover.shell('head -c 1000000 /dev/zero')
        drover.wait_final(old)
        gate = drover.gate()
        running = [drover.shell(gate.wait, '-j', 2) for _ in range(2)]
        for task in running:
            drover.wait_state(task, 'running')
        make_room = fill(drover)
        log = drover.outside(drover.task(old)['log_path'])
        drover.bad(1, 'cancel', running[0], says=('disk full', 'this is done'))
        assert drover.wait_final(running[0])['state'] == 'cancelled'
        assert os.path.exists(log)
        drover.run('clean', old)
        harness.wait_until(lambda: not os.path.exists(log), 10, 'its log is gone: that is how room is made')
        make_room()
        harness.wait_until(lambda: check_status(drover)['problems'] == [], 20, 'all is well again')
        gate.open()
        assert drover.wait_final(running[1])['state'] == 'succeeded'
        assert drover.task(running[0])['state'] == 'cancelled'
        assert [task['id'] for task in drover.tasks()] == running


@pytest.mark.limit(60)
def test_full_log_directory(make_drover):
    """The log stops growing; the task is not ended by that and learns of nothing; the user is told."""
    drover = make_drover()
    with mounted(drover, 'size=256k', below='logs'):
        status = os.path.join(drover.folder, 'status')
        task = drover.shell(f'echo first; head -c 3000000 /dev/zero; echo $? > {status}; exit 3')
        done = drover.wait_final(task)
        assert (done['state'], done['exit_code']) == ('failed', 3)
        assert harness.read(status) == '0\n'
        dropped = done['output_dropped_bytes']
        assert done['output_bytes'] == 3000006 and dropped > 2500000
        text = drover.run('logs', task).stdout
        marked = re.search(r'drover: (\d+) bytes dropped', text)
        assert text.startswith('first\n') and marked, text[-200:]
        assert abs(int(marked.group(1)) - dropped) < 8192  # a file's holes are whole blocks
        assert str(dropped) in drover.good('show', task)
        assert drover.run('run', '--', 'true').returncode == 0


@pytest.mark.limit(60)
def test_full_repository(make_drover):
    """No room for a worktree: that task fails and says so, what is there stays whole, and with room the next one works."""
    drover = make_drover()
    with mounted(drover, 'size=8m', below='../disk'):
        place = os.path.join(drover.state, '..', 'disk')
        drover.before += ['sh', '-c', f'cd {place}/r 2>/dev/null; exec "$@"', 'sh']
        script = ('git init -q -b main r && cd r && head -c 1000000 /dev/urandom > big && git add -A && '
                  'git -c user.name=T -c user.email=t@example.org commit -q -m first')
        subprocess.run([*drover.before[:-4], 'sh', '-c', f'cd {place} && {script}'], check=True, env=drover.environment)
        make_room = fill(drover)
        done = drover.run('run', '-w', '--', 'true')
        assert done.returncode == 1 and 'No space left' in done.stderr + drover.good('ls', '--all'), done.stderr
        check_status(drover)
        make_room()
        assert drover.run('run', '-w', '--', 'sh', '-c', 'echo new > new').returncode == 0
        text = subprocess.run([*drover.before, 'sh', '-c', 'git fsck --connectivity-only && git status --porcelain && '
                               'git show parallel/2:new && git worktree list'], check=True, env=drover.environment,
                              stdout=subprocess.PIPE).stdout.decode()
        assert text.startswith('new\n') and text.count('\n') == 2, text


def test_full_disk_at_the_first_start(make_drover):
    drover = make_drover()
    with mounted(drover, 'size=512k'):
        error = drover.run('run', '--', 'true').stderr
        assert 'disk full' in error and 'KiB' in error, error


# -- descriptors -------------------------------------------------------------------------------------------------------

def limited(drover, number):
    drover.before = ['prlimit', f'--nofile={number}:{number}', '--']


@contextlib.contextmanager
def lowered(pid, number):
    """The limit of a process that runs, for as long as the block does."""
    old = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (number, old[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, old)


def cpu_seconds(pid):
    fields = harness.stat_fields(pid)
    return (int(fields[11]) + int(fields[12])) / os.sysconf('SC_CLK_TCK')


class Flood:
    """Connections that say hello and stay."""

    def __init__(self, path, count):
        self.links = [harness.Raw(path, hello=False) for _ in range(count)]
        self.inside, self.refused = [], []

    def greet(self):
        for link in self.links:
            with contextlib.suppress(OSError):  # refused already
                link.send(b'{"jsonrpc":"2.0","id":0,"method":"hello","params":{"protocol":1,"client":"flood"}}\n')
        for link in self.links:
            answer = link.answer()
            assert answer is not None, 'ended without a word'
            (self.refused if 'error' in answer else self.inside).append(link)
            if 'error' in answer:
                assert answer['error']['code'] == TOO_MANY_CLIENTS, answer

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for link in self.links:
            link.close()


@pytest.mark.limit(90)
def test_32_descriptors(make_drover):
    """One task at a time then, said plainly; a flood of clients takes nothing from it."""
    drover = make_drover()
    limited(drover, 32)
    gate, ran = drover.gate(), os.path.join(drover.folder, 'ran')
    tasks = drover.add('-j', 8, 'sh', '-c', f'{gate.wait}; echo {{}} >> {ran}; exit {{}}', ':::', *range(6))
    drover.wait_state(tasks[0], 'running')
    status = check_status(drover)
    assert status['slots'] == 1 and status['running'] == 1
    assert ['RLIMIT_NOFILE' in text for text in status['problems']] == [True], status['problems']
    pid = drover.daemon_pid()
    used = cpu_seconds(pid)
    with Flood(drover.daemon_status()['socket'], 100) as flood:
        flood.greet()
        assert len(flood.inside) == 4 and len(flood.refused) == 96
        for link in flood.inside:
            begin = time.monotonic()
            assert link.call('status')['running'] == 1
            assert time.monotonic() - begin < STATUS_LIMIT_S
        assert cpu_seconds(pid) - used < 2
        gate.open()
        link = flood.inside[0]
        harness.wait_until(lambda: link.call('status')['states']['failed'] == 5, 60, 'all of them ran meanwhile')
    drover.before = []
    assert [(task['state'], task['exit_code'], task['attempt']) for task in drover.tasks()] == \
        [('failed' if code else 'succeeded', code, 1) for code in range(6)]
    assert harness.read(ran).split() == [str(code) for code in range(6)]
    assert drover.daemon_pid() == pid
    still_works(drover)


def test_worktrees_with_32_descriptors(make_drover):
    drover = make_drover()
    drover.work = harness.make_repository(os.path.join(drover.folder, 'repository'))
    limited(drover, 32)
    tasks = drover.add('-w', '-j', 4, 'sh', '-c', 'echo {} > new', ':::', 'a', 'b', 'c')
    assert drover.run('wait', *tasks).returncode == 0
    assert [harness.git('show', f'{drover.task(task)["branch"]}:new', cwd=drover.work) for task in tasks] == ['a', 'b', 'c']


def test_too_few_descriptors(make_drover):
    drover = make_drover()
    limited(drover, 28)
    drover.bad(3, 'run', '--', 'true', says=('RLIMIT_NOFILE', 'ulimit -n', '32'))
    drover.before = []
    still_works(drover)


@pytest.mark.limit(90)
def test_descriptors_run_out_under_a_flood(make_drover):
    """None is left, not even for the connection: nobody gets in, nothing spins, what is connected is served."""
    drover = make_drover()
    gate = drover.gate()
    task = drover.shell(f'{gate.wait}; exit 5')
    drover.wait_state(task, 'running')
    link, pid = drover.connect(), drover.daemon_pid()
    for number in (3, len(os.listdir(f'/proc/{pid}/fd'))):
        path = drover.daemon_status()['socket']
        with lowered(pid, number), Flood(path, 30) as flood:
            used, begin = cpu_seconds(pid), time.monotonic()
            if number == 3:
                assert not select.select([flood.links[0].socket], [], [], 2.5)[0], 'it waits in the kernel'
            else:
                flood.greet()
                assert len(flood.refused) == 30, 'the spare descriptor is enough to say why not'
            assert link.call('status')['running'] == 1
            assert cpu_seconds(pid) - used < 0.2 + (time.monotonic() - begin) / 5
    gate.open()
    assert drover.wait_final(task)['exit_code'] == 5
    assert drover.daemon_pid() == pid
    still_works(drover)


@pytest.mark.limit(60)
def test_the_hard_maximum_is_lowered_under_running_tasks(make_drover):
    """More of a batch run than may from now on: they end as they would have, and only then others start."""
    drover = make_drover()
    gate, ran = drover.gate(), os.path.join(drover.folder, 'ran')
    tasks = drover.add('-j', 5, 'sh', '-c', f'echo {{}} >> {ran}; {gate.wait}; exit {{}}', ':::', *range(7))
    for task in tasks[:5]:
        drover.wait_state(task, 'running')
    os.makedirs(os.path.join(drover.environment['HOME'], '.config', 'drover'))
    harness.write(os.path.join(drover.environment['HOME'], '.config', 'drover', 'config.yaml'),
                  'limits: {hardMaxConcurrent: 2}\n')
    pid = drover.daemon_pid()
    drover.good('daemon', 'restart')
    drover.wait_daemon(other_than=pid)
    status = check_status(drover)
    assert (status['running'], status['queued'], status['slots']) == (5, 2, 2)
    gate.open()
    assert [drover.wait_final(task)['exit_code'] for task in tasks] == list(range(7))
    assert sorted(map(int, harness.read(ran).split())) == list(range(7))


@pytest.mark.limit(90)
def test_more_run_than_the_next_daemon_can_watch(make_drover):
    """Started with many descriptors, gone on with few: every attempt is adopted once, every end is learnt."""
    drover = make_drover()
    gate, ran = drover.gate(), os.path.join(drover.folder, 'ran')
    tasks = drover.add('-j', 20, 'sh', '-c', f'echo {{}} >> {ran}; {gate.wait}; exit {{}}', ':::', *range(6))
    for task in tasks:
        drover.wait_state(task, 'running')
    drover.good('daemon', 'stop')
    limited(drover, 32)
    drover.start()
    drover.before = []
    assert check_status(drover)['running'] == 6
    gate.open()
    assert [drover.wait_final(task)['exit_code'] for task in tasks] == list(range(6))
    assert {drover.task(task)['attempt'] for task in tasks} == {1}
    assert sorted(map(int, harness.read(ran).split())) == list(range(6))


@pytest.mark.limit(60)
def test_a_keeper_without_descriptors(make_drover):
    """Nothing can be started: the tasks wait with the reason, and go on when there are some again."""
    drover = make_drover()
    first = drover.shell('exit 0')
    drover.wait_final(first)
    keeper = drover.keeper_pid()
    with lowered(keeper, len(os.listdir(f'/proc/{keeper}/fd'))):
        task = drover.add('-j', 3, 'sh', '-c', 'exit {}', ':::', 4, 5, 6)

        def look():
            waiting = [drover.task(number) for number in task]
            return [it for it in waiting if it['reason'] == 'backoff' and 'Too many open files' in it['wait']['text']]
        used = cpu_seconds(keeper)
        harness.wait_until(look, 20, 'one waits, and says for what')
        check_status(drover)
        assert cpu_seconds(keeper) - used < 1
    assert [drover.wait_final(number)['exit_code'] for number in task] == [4, 5, 6]
    assert {drover.task(number)['attempt'] for number in task} == {1}


@pytest.mark.limit(90)
def test_a_keeper_that_takes_no_order_for_a_moment(make_drover):
    """Its socket is full, as when hundreds of tasks start at once: the order follows when there is room, not some time."""
    delays = []
    while not delays or (len(delays) < 3 and delays[-1] > 2):  # a busy machine may take as long as the error did: 4 s
        drover = make_drover(environment={'ASAN_OPTIONS': 'detect_leaks=0'})
        drover.good('daemon', 'start')
        pid = drover.daemon_pid()
        socket = os.readlink(f'/proc/{pid}/fd/3')
        with injected(drover, pid, '-P', socket, '-e', 'trace=sendmsg', '-e', 'inject=sendmsg:error=EAGAIN:when=1') as log:
            begin = time.monotonic()
            task, = drover.add('--', 'true')
            assert drover.wait_final(task)['exit_code'] == 0
            delays.append(time.monotonic() - begin)
            assert 'INJECTED' in harness.read(log)
    assert delays[-1] < 2, delays


# -- processes ---------------------------------------------------------------------------------------------------------

@contextlib.contextmanager
def control_group(drover, controller):
    """A group of the old kind, in which all that this drover starts lives; gives a function that sets a file of it."""
    folder = f'/sys/fs/cgroup/{controller}/drover-test-{os.path.basename(drover.folder)}'
    try:
        os.mkdir(folder)
    except OSError as error:
        pytest.skip(f'no group of the controller {controller} can be made: {error.strerror}')
    drover.before = ['sh', '-c', f'echo $$ > {folder}/cgroup.procs && exec "$@"', 'sh']

    def put(name, value):
        harness.write(os.path.join(folder, name), str(value))
    put.path = folder
    try:
        yield put
    finally:
        for name, unlimited in (('pids.max', 'max'), ('memory.limit_in_bytes', -1)):
            with contextlib.suppress(OSError):
                put(name, unlimited)
        drover.before = []
        with contextlib.suppress(Exception):
            drover.run('daemon', 'stop', '--stop-tasks')
            harness.wait_until(lambda: drover.processes() == [], 20, 'all of it has ended')
        harness.wait_until(lambda: not harness.read(os.path.join(folder, 'cgroup.procs')).split(), 20, 'it is empty')
        os.rmdir(folder)


def no_more_processes(put):
    """What is there to stay may stay, nothing more may come."""
    def is_settled():
        names = [harness.read_proc(pid, 'comm') for pid in harness.read(os.path.join(put.path, 'cgroup.procs')).split()]
        return all(name.rstrip() in (b'drover-keeper', b'drover-daemon', b'drover-shim', b'sh') for name in names)
    harness.wait_until(is_settled, 20, 'helpers have ended')
    put('pids.max', harness.read(os.path.join(put.path, 'pids.current')).strip())


@pytest.mark.limit(60)
@pytest.mark.parametrize('has_shim', [True, False], ids=['child', 'shim'])
def test_no_process_can_be_made(make_drover, has_shim):
    """Neither for a task in an idle shim, nor for another shim: the task waits, says for what, and goes on in time."""
    drover = make_drover()
    with control_group(drover, 'pids') as put:
        gate, ran = drover.gate(), os.path.join(drover.folder, 'ran')
        running = drover.shell(f'{gate.wait}; exit 5', '-j', 4)
        drover.wait_state(running, 'running')
        if has_shim:
            drover.wait_final(drover.shell('exit 0', '-j', 4))
        drover.before = []
        pid, keeper = drover.daemon_pid(), drover.keeper_pid()
        no_more_processes(put)
        tasks = drover.add('-j', 4, 'sh', '-c', f'echo {{}} >> {ran}', ':::', 1, 2, 3)
        used = cpu_seconds(pid) + cpu_seconds(keeper)
        for task in tasks:
            def look():
                wait = drover.task(task)['wait'] or {'text': ''}
                return 'Resource temporarily unavailable' in wait['text'] and wait['reason'] == 'backoff'
            harness.wait_until(look, 20, 'it says what it waits for')
        harness.wait_until(lambda: 'Resource temporarily unavailable' in drover.good('why', tasks[0]), 20)
        assert check_status(drover)['running'] >= 1
        assert cpu_seconds(pid) + cpu_seconds(keeper) - used < 1
        put('pids.max', 'max')
        assert [drover.wait_final(task)['attempt'] for task in tasks] == [1, 1, 1]
        gate.open()
        assert drover.wait_final(running)['exit_code'] == 5
        assert sorted(harness.read(ran).split()) == ['1', '2', '3']
        starts = [event for event in events(drover) if event['task'] == tasks[0] and event['state'] == 'preparing']
        assert 2 <= len(starts) <= 12, 'it was tried again, with pauses that grow'
        assert drover.daemon_pid() == pid


def events(drover):
    link = drover.connect()
    end = link.call('events.subscribe', {'after_seq': 0})['seq']
    found = []
    while not found or found[-1]['seq'] < end:
        found.append(link.answer()['params'])
    link.close()
    return found


@pytest.mark.limit(60)
def test_no_process_for_a_helper(make_drover):
    """A worktree cannot be made while no git can be run: the job is run again, the task does not fail."""
    drover = make_drover()
    drover.work = harness.make_repository(os.path.join(drover.folder, 'repository'))
    with control_group(drover, 'pids') as put:
        gate = drover.gate()
        drover.wait_state(drover.shell(gate.wait, '-j', 3), 'running')
        drover.before = []
        held = drover.add('--hold', '-j', 3, '-w', '--', 'sh', '-c', 'echo new > new')
        no_more_processes(put)
        drover.good('release', *held)
        harness.wait_until(lambda: drover.state_of(held[0]) == 'preparing', 20, 'its worktree is ordered')
        check_status(drover)
        used = cpu_seconds(drover.daemon_pid())
        link = drover.connect()
        assert not select.select([link.socket], [], [], 1.5)[0]  # some tries later
        link.close()
        assert cpu_seconds(drover.daemon_pid()) - used < 0.5
        assert drover.state_of(held[0]) == 'preparing'
        put('pids.max', 'max')
        done = drover.wait_final(held[0])
        assert (done['state'], done['attempt']) == ('succeeded', 1)
        assert harness.git('show', f'{done["branch"]}:new', cwd=drover.work) == 'new'
        gate.open()


@pytest.mark.limit(60)
def test_no_process_for_a_successor(make_drover):
    """A shim dies and no other can be put over its task: nobody gets SIGPIPE, and it is tried again until one can."""
    drover = make_drover()
    with control_group(drover, 'pids') as put:
        gate, wrote = drover.gate(), os.path.join(drover.folder, 'wrote')
        task = drover.shell(f'echo one; {gate.wait}; echo two && echo yes > {wrote}')
        drover.wait_state(task, 'running')
        harness.wait_until(lambda: drover.log(task) == b'one\n', 20, 'it has begun')
        shim = drover.shim_of(task)
        drover.before = []
        no_more_processes(put)
        put('pids.max', int(harness.read(os.path.join(put.path, 'pids.current'))) - 1)  # its place is not given again
        harness.signal_process(shim, signal.SIGKILL)
        harness.wait_gone(shim)
        harness.wait_until(lambda: 'no shim can be put over' in drover.daemon_log(), 20, 'the keeper tried')
        assert drover.task(task)['conditions'] == ['lost-shim'] and drover.state_of(task) == 'running'
        check_status(drover)
        gate.open()
        harness.wait_until(lambda: os.path.exists(wrote), 20, 'the task could write')
        put('pids.max', 'max')
        done = drover.wait_final(task)  # by the daemon's asking again, every few seconds
        assert (done['state'], done['attempt']) == ('lost', 1) and 'shim died' in done['cause']
        assert drover.log(task) == b'one\ntwo\n'
        still_works(drover)


@pytest.mark.limit(60)
def test_shim_dies_between_start_and_saying_so(make_drover):
    """Its record says that the task runs, its message was never sent: the task runs for the daemon, too."""
    drover = make_drover()
    drover.wait_final(drover.shell('exit 0', '-j', 1))
    shims = [pid for pid in harness.children_of(drover.keeper_pid())
             if harness.read_proc(pid, 'comm') == b'drover-shim\n']
    assert len(shims) == 1
    tracer = subprocess.Popen(['strace', '-o', '/dev/null', '-e', 'trace=sendmsg', '-e',
                               'inject=sendmsg:signal=SIGKILL:when=2',  # the handover, then STARTED
                               '-p', str(shims[0])], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
    line = tracer.stderr.readline()
    if b'attached' not in line:
        tracer.wait()
        pytest.skip(f'strace cannot attach here: {line.decode()}')
    gate, ran = drover.gate(), os.path.join(drover.folder, 'ran')
    task = drover.shell(f'echo ran >> {ran}; {gate.wait}', '-j', 1)
    harness.wait_gone(shims[0])
    tracer.wait()
    tracer.stderr.close()
    running = drover.wait_state(task, 'running')
    assert running['conditions'] == ['lost-shim'] and running['started_at']
    gate.open()
    done = drover.wait_final(task)
    assert (done['state'], done['attempt']) == ('lost', 1)
    assert harness.read(ran) == 'ran\n'


@pytest.mark.limit(60)
@pytest.mark.parametrize('room', [0, 1], ids=['no-daemon', 'no-thread'])
def test_no_process_for_the_daemon(make_drover, room):
    """The keeper cannot start it, or it cannot start its thread: tried again with pauses, and tasks do not notice."""
    drover = make_drover(environment={'ASAN_OPTIONS': 'detect_leaks=0'})  # which would want a thread, too
    with control_group(drover, 'pids') as put:
        gate = drover.gate()
        task = drover.shell(f'{gate.wait}; exit 5')
        drover.wait_state(task, 'running')
        drover.before = []
        pid, keeper = drover.daemon_pid(), drover.keeper_pid()
        threads = len(os.listdir(f'/proc/{pid}/task'))
        now = int(harness.read(os.path.join(put.path, 'pids.current')))
        put('pids.max', now - threads + room)
        used = cpu_seconds(keeper)
        harness.signal_process(pid, signal.SIGKILL)
        word = 'exited with 1' if room else 'trying again'
        begin = time.monotonic()
        harness.wait_until(lambda: drover.daemon_log().count(word) >= 3, 30, 'it was tried three times')
        assert time.monotonic() - begin > 0.5, 'the pauses grow: 0.1, 0.2, 0.4 s'
        assert cpu_seconds(keeper) - used < 0.5
        gate.open()  # its end is recorded without any daemon
        put('pids.max', 'max')
        drover.wait_daemon(other_than=pid)
        done = drover.wait_final(task)
        assert (done['exit_code'], done['attempt']) == (5, 1)
        assert drover.keeper_pid() == keeper
        still_works(drover)


# -- memory ------------------------------------------------------------------------------------------------------------

def may_put(put, name, value):
    try:
        put(name, value)
    except OSError:
        return False
    return True


@pytest.mark.limit(120)
def test_daemon_killed_for_memory(make_drover):
    """In 30 MiB: killed, started with growing pauses and killed again while the queue is too large; the task goes on."""
    build = harness.find_plain_build()
    if build is None:
        pytest.skip('needs a build without sanitizers: build/clang or build/release')
    drover = make_drover()
    drover.use_build(build)
    with control_group(drover, 'memory') as put:
        put('memory.limit_in_bytes', 30 << 20)
        gate, ran = drover.gate(), os.path.join(drover.folder, 'ran')
        task = drover.shell(f'echo once >> {ran}; {gate.wait}; exit 5')
        drover.wait_state(task, 'running')
        drover.before = []
        keeper, acknowledged = drover.keeper_pid(), 1
        while 'ended by signal 9' not in drover.daemon_log():
            process = drover.popen('add', '--hold', 'true', 'x' * 30000, ':::', *range(150))
            harness.wait_until(lambda: process.poll() is not None or 'ended by signal 9' in drover.daemon_log(), 30)
            process.kill()  # or it would try again, and end the next daemons so
            out, _ = process.communicate()
            acknowledged += len(out.split()) if process.returncode == 0 else 0
        pid = drover.wait_daemon()
        assert drover.state_of(task) == 'running'
        before, begin = drover.daemon_log().count('signal 9'), time.monotonic()
        harness.signal_process(keeper, signal.SIGSTOP)  # no new one before the limit is there
        harness.signal_process(pid, signal.SIGKILL)
        harness.wait_gone(pid)
        # The queue does not even fit any more; EBUSY while what the dead one had is still being taken back.
        harness.wait_until(lambda: may_put(put, 'memory.limit_in_bytes', 10 << 20), 20)
        harness.signal_process(keeper, signal.SIGCONT)
        harness.wait_until(lambda: drover.daemon_log().count('signal 9') >= before + 4, 30, 'each one dies in turn')
        assert time.monotonic() - begin > 0.6, 'the pauses grow: 0.1, 0.2, 0.4 s'
        assert cpu_seconds(keeper) < 1
        assert harness.read(ran) == 'once\n'
        put('memory.limit_in_bytes', 400 << 20)
        drover.wait_daemon()
        gate.open()
        done = drover.wait_final(task)
        assert (done['exit_code'], done['attempt']) == (5, 1)
        assert harness.read(ran) == 'once\n'
        states = drover.json('status')['states']
        assert states['held'] + 1 >= acknowledged
        assert drover.keeper_pid() == keeper
