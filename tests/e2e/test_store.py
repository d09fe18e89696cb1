"""The database under faults: disks that fail, files that are lost, damaged or held. FAULTS 14 to 20."""
import contextlib
import json
import os
import shutil
import signal
import subprocess

import pytest

import harness


def still_works(drover):
    assert drover.good('run', '--', 'echo', 'works') == 'works\n'


def stop(drover):
    drover.good('daemon', 'stop', '--stop-tasks')
    harness.wait_until(lambda: drover.processes() == [], 20, 'all of it has ended')


# -- a disk that fails once --------------------------------------------------------------------------------------------

@contextlib.contextmanager
def injected(drover, fault):
    """The daemon under strace, which makes `fault` happen; gives the path of strace's log."""
    log = os.path.join(drover.folder, 'strace')
    pid = drover.daemon_pid()
    call = fault.split(':')[0]
    tracer = subprocess.Popen(['strace', '-f', '-qq', '-o', log, '-p', str(pid), '-e', f'trace={call}',
                               '-e', f'inject={fault}'], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
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


@pytest.mark.limit(120)
def test_a_failed_fdatasync_is_not_tried_again(make_drover):
    """After one EIO nothing is acknowledged; what runs is kept, its end is seen; the next daemon knows what is durable."""
    drover = make_drover(environment={'ASAN_OPTIONS': 'detect_leaks=0'})
    gate = drover.gate()
    running, waiting = drover.add('-j', 1, 'sh', '-c', f'{gate.wait}; exit {{}}', ':::', 5, 0)
    drover.wait_state(running, 'running')
    with injected(drover, 'fdatasync:error=EIO:when=1') as log:
        drover.bad(1, 'add', '--', 'touch', 'once-or-not', says='not known')
        drover.bad(1, 'add', '--', 'touch', 'never', says='accept')
        drover.bad(1, 'cancel', waiting, says='accept')
        assert [task['id'] for task in drover.tasks()] == [running, waiting], 'what was refused is not listed'
        assert drover.state_of(running) == 'running'
        assert 'restart' in drover.json('status')['problems'][0]
        assert 'Nothing more is written' in drover.run('doctor').stdout
        gate.open()
        done = drover.wait_final(running)
        assert (done['state'], done['exit_code']) == ('failed', 5), 'its end is known from its record'
        assert drover.state_of(waiting) == 'queued', 'nothing new is started'
        synced = [line for line in harness.read(log).splitlines() if 'fdatasync' in line]
        assert len(synced) == 1 and 'INJECTED' in synced[0], 'no second try'
    drover.good('daemon', 'restart')
    drover.wait_daemon()
    done = drover.wait_final(running)
    assert (done['exit_code'], done['attempt']) == (5, 1)
    assert drover.wait_final(waiting)['state'] == 'succeeded'
    drover.run('wait', '--all')
    assert len(drover.tasks()) <= 3
    still_works(drover)
    assert not os.path.exists(os.path.join(drover.work, 'never'))


@pytest.mark.limit(120)
def test_what_was_in_doubt_is_taken_out_in_every_state(make_drover):
    """Held, blocked, queued, about to start, with and without a worktree: none of them is shown, all slots are free."""
    drover = make_drover(environment={'ASAN_OPTIONS': 'detect_leaks=0'})
    drover.work = os.path.join(drover.folder, 'repository')
    harness.make_repository(drover.work)
    first = drover.shell('exit 0')
    drover.wait_final(first)
    batch = os.path.join(drover.folder, 'batch.json')
    harness.write(batch, """{"tasks": [
        {"id": "plain", "run": "touch never"}, {"id": "tree", "run": "touch never", "worktree": "checkout"},
        {"id": "held", "run": "touch never", "hold": true},
        {"id": "after", "run": "touch never", "after": ["plain", "held"]}]}""")
    with injected(drover, 'fdatasync:error=EIO:when=1'):
        drover.bad(1, 'add', '-f', batch, says='not known')
        assert [task['id'] for task in drover.tasks()] == [first]
        status = drover.json('status')
        assert (status['running'], status['queued'], status['batches']) == (0, 0, 1)
    drover.good('daemon', 'restart')
    still_works(drover)


# -- a database that is lost, old or damaged ---------------------------------------------------------------------------

def crash(drover):
    """Ends daemon and keeper as a power cut would: nothing is tidied, and nobody starts a daemon again."""
    daemon, keeper = drover.daemon_pid(), drover.keeper_pid()
    harness.signal_process(keeper, signal.SIGSTOP)
    harness.signal_process(daemon, signal.SIGKILL)
    harness.wait_gone(daemon)
    harness.signal_process(keeper, signal.SIGKILL)
    harness.wait_gone(keeper)


def database(drover, ending=''):
    return os.path.join(drover.state, 'drover.db' + ending)


def lose_log(drover):
    os.unlink(database(drover, '-wal'))


def lose_all(drover):
    for ending in ('', '-wal'):
        os.unlink(database(drover, ending))


def empty(drover):
    lose_log(drover)
    harness.write(database(drover), '', 0o600)


def put_back_old_copy(drover):
    lose_log(drover)
    shutil.copy(os.path.join(drover.folder, 'old.db'), database(drover))


def lose_slots_too(drover):
    lose_all(drover)
    os.unlink(os.path.join(drover.state, 'slots'))


def lose_slots_and_harm_the_rest(drover):
    os.unlink(os.path.join(drover.state, 'slots'))
    lose_log(drover)
    harness.write(database(drover), 'no database, but not empty either', 0o600)


def quarantines(drover):
    return sorted(name for name in os.listdir(drover.state) if name.startswith('damaged-'))


@pytest.mark.limit(120)
@pytest.mark.parametrize('harm', [lose_log, lose_all, empty, put_back_old_copy])
def test_a_database_behind_the_slot_file_is_refused_and_restored(drover, harm):
    gate = drover.gate()
    done = drover.shell('exit 3')
    drover.wait_final(done)
    shutil.copy(drover.good('db', 'backup').strip(), os.path.join(drover.folder, 'old.db'))
    running, waiting = drover.add('-j', 1, 'sh', '-c', f'echo {{}} >> effects; {gate.wait}; exit {{}}', ':::', 5, 0)
    pid = drover.wait_state(running, 'running')['pid']
    drover.good('db', 'backup')
    late = drover.shell('exit 0')
    drover.wait_final(late)
    crash(drover)
    harm(drover)
    drover.bad(3, 'ls', says="'drover db restore'")
    drover.bad(3, 'add', '--', 'true', says='committed')
    drover.bad(1, 'db', 'check', says='committed')
    assert harness.is_running(pid), 'the task goes on'
    told = drover.good('db', 'restore')
    assert drover.task(done)['state'] == 'failed' and drover.task(done)['exit_code'] == 3
    assert (drover.task(running)['state'], drover.task(running)['pid']) == ('running', pid)
    assert drover.state_of(waiting) == 'held' and f'task {waiting}: held' in told
    assert 'events behind event' in told, 'what was not in the snapshot is told'
    problems = drover.json('status')['problems']
    assert [text for text in problems if 'was restored' in text and '1 held' in text], problems
    assert 'was restored' in drover.daemon_log()
    assert 'was restored' in drover.run('doctor').stdout
    assert harness.read(os.path.join(drover.state, quarantines(drover)[0], 'report.txt')).startswith('the database was')
    gate.open()
    assert drover.wait_final(running)['exit_code'] == 5
    drover.good('release', waiting)
    assert drover.wait_final(waiting)['state'] == 'succeeded'
    assert harness.read(os.path.join(drover.work, 'effects')).split() == ['5', '0'], 'each ran once'
    assert drover.shell('exit 0') > late, 'no id is used again'
    assert drover.good('db', 'check').startswith('the database is whole')


def test_a_snapshot_is_a_witness_too(drover):
    """Database and slot file are gone: that there were tasks is known from the snapshots."""
    done = drover.shell('exit 3')
    drover.wait_final(done)
    drover.good('db', 'backup')
    crash(drover)
    lose_slots_too(drover)
    drover.bad(3, 'ls', says="'drover db restore'")
    drover.good('db', 'restore')
    assert drover.task(done)['exit_code'] == 3


@pytest.mark.parametrize('harm', [lose_slots_too, lose_slots_and_harm_the_rest])
def test_what_waited_in_a_snapshot_may_have_run_since(drover, harm):
    """Nothing tells how far the log went: neither what was queued then nor what was blocked runs a second time."""
    gate = drover.gate()
    batch = harness.write(os.path.join(drover.folder, 'batch.json'), json.dumps({'tasks': [
        {'id': 'first', 'run': gate.wait}, {'id': 'second', 'run': 'echo second >> effects', 'after': 'first'}]}))
    first, second = drover.add('-f', batch)
    drover.wait_state(first, 'running')
    drover.good('pause')
    queued = drover.shell('echo queued >> effects')
    drover.good('db', 'backup')
    drover.good('unpause')
    gate.open()
    for task in (first, second, queued):
        assert drover.wait_final(task)['state'] == 'succeeded'
    crash(drover)
    harm(drover)
    told = drover.good('db', 'restore')
    assert 'how many events there were behind event' in told
    drover.run('unpause')
    drover.good('run', '--', 'true')
    assert [drover.state_of(task) for task in (first, second, queued)] == ['lost', 'skipped', 'held']
    assert f'task {queued}: held' in told
    assert sorted(harness.read(os.path.join(drover.work, 'effects')).split()) == ['queued', 'second'], 'each ran once'


def test_ends_that_only_the_slot_file_knows_are_restored(drover):
    gate = drover.gate()
    running = drover.shell(f'{gate.wait}; exit 7')
    pid = drover.wait_state(running, 'running')['pid']
    drover.good('db', 'backup')
    crash(drover)
    gate.open()
    harness.wait_gone(pid)
    lose_all(drover)
    drover.bad(3, 'ls', says="'drover db restore'")
    drover.good('db', 'restore')
    end = drover.wait_final(running)
    assert (end['state'], end['exit_code'], end['attempt']) == ('failed', 7, 1)


def test_a_lost_slot_file_runs_nothing_twice(drover):
    """Nobody knows which process is whose: refused, and by the command the running task is called lost."""
    gate = drover.gate()
    held = drover.add('--hold', '--', 'true')[0]
    running = drover.shell(f'echo ran >> effects; {gate.wait}', '--idempotent')
    pid = drover.wait_state(running, 'running')['pid']
    drover.good('daemon', 'stop')
    os.unlink(os.path.join(drover.state, 'slots'))
    for _ in range(2):
        drover.bad(3, 'ls', says=['slots is missing', '1 tasks', "'drover db restore'"])
    gate.open()
    harness.wait_gone(pid)
    assert f'task {running}: lost' in drover.good('db', 'restore')
    assert (drover.state_of(running), drover.state_of(held)) == ('lost', 'held')
    still_works(drover)
    assert harness.read(os.path.join(drover.work, 'effects')).split() == ['ran']


def test_a_lost_slot_file_does_not_matter_after_a_reboot(drover):
    """No process of another boot is left, so the daemon starts without it; check and restore say the same."""
    if not harness.can_mount():
        pytest.skip('no permission for a mount namespace with another boot id in it')
    gate = drover.gate()
    running = drover.shell(gate.wait)
    pid = drover.wait_state(running, 'running')['pid']
    drover.good('daemon', 'stop')
    gate.open()
    harness.wait_gone(pid)
    harness.wait_until(lambda: drover.processes() == [], 20, 'all of it has ended')
    os.unlink(os.path.join(drover.state, 'slots'))
    drover.bad(1, 'db', 'check', says='slots is missing')
    boot = harness.write(os.path.join(drover.folder, 'boot_id'), '11111111-2222-3333-4444-555555555555\n')
    drover.before = ['unshare', '-m', '--propagation', 'private', 'sh', '-c',
                     f"mount --bind '{boot}' /proc/sys/kernel/random/boot_id && exec \"$@\"", 'sh']
    checked, restored = drover.run('db', 'check'), drover.run('db', 'restore')
    task = drover.task(running)
    drover.before = []
    assert task['state'] == 'lost', 'the daemon starts'
    assert (checked.returncode, restored.returncode) == (0, 0), (checked.stderr, restored.stderr)
    assert 'is whole' in checked.stdout and 'nothing to restore' in restored.stdout


def test_nothing_to_restore(drover):
    drover.bad(1, 'db', 'restore', says='nothing to restore from')
    drover.bad(1, 'db', 'check', says='no database')
    drover.good('run', '--', 'true')
    drover.bad(1, 'db', 'restore', says='daemon uses the database')
    drover.good('daemon', 'stop')
    harness.wait_until(lambda: drover.processes() == [], 20, 'all of it has ended')
    assert 'nothing to restore' in drover.good('db', 'restore')
    assert 'is whole' in drover.good('db', 'check')
    assert quarantines(drover) == []
    os.unlink(database(drover))
    drover.bad(1, 'db', 'restore', says='nothing to restore from')


@pytest.mark.limit(120)
def test_damaged_pages_are_refused_and_restored_around(drover):
    """Each page in turn is overwritten: what the others and the snapshot hold is there again, the rest is told."""
    drover.run('run', '-j', 2, 'sh', '-c', 'echo {} >> effects; exit {}', ':::', 0, 0, 1, 2)
    drover.add('--hold', '--name', 'later', '--', 'sh', '-c', 'echo held >> effects')
    drover.good('db', 'backup')
    late = drover.add('--hold', '--', 'sh', '-c', 'echo late >> effects')[0]
    before = {task['id']: (task['state'], task['exit_code']) for task in drover.tasks()}
    drover.good('daemon', 'stop')
    harness.wait_until(lambda: drover.processes() == [], 20, 'all of it has ended')
    with open(database(drover), 'rb') as file:
        good = file.read()
    for page in range(len(good) // 4096):
        shutil.rmtree(os.path.join(drover.folder, 'copy'), ignore_errors=True)
        with open(database(drover), 'wb') as file:
            file.write(good[:page * 4096] + b'\xa5' * 4096 + good[page * 4096 + 4096:])
        drover.bad(1, 'db', 'check')
        told = drover.good('db', 'restore')
        tasks = {task['id']: (task['state'], task['exit_code']) for task in drover.tasks()}
        for number, was in before.items():
            assert tasks.get(number) == was or f'task {number}: gone' in told or f'task {number}: held' in told or \
                number == late and 'events behind' in told, (page, number, tasks, told)
        drover.good('daemon', 'stop')
        harness.wait_until(lambda: drover.processes() == [], 20, 'all of it has ended')
    assert len(quarantines(drover)) >= 1
    assert sorted(harness.read(os.path.join(drover.work, 'effects')).split()) == ['0', '0', '1', '2']


@pytest.mark.limit(120)
def test_an_interrupted_restore_is_finished_by_another(drover):
    """Killed while the old database has two names and its log is away: nothing of either is lost."""
    done = drover.shell('exit 3')
    drover.wait_final(done)
    drover.add('--hold', '--', 'true')
    crash(drover)
    with open(database(drover, '-wal'), 'r+b') as file:  # all but the last commit can be read, and only from here
        file.seek(-100, os.SEEK_END)
        file.write(b'x' * 50)
    drover.bad(3, 'ls', says="'drover db restore'")
    failed = drover.run('db', 'restore', env={'DROVER_FAIL': 'restore_swapping'})
    assert failed.returncode != 0
    assert not os.path.exists(database(drover, '-wal'))
    drover.bad(3, 'ls', says="'drover db restore'")
    drover.good('db', 'restore')
    assert drover.task(done)['exit_code'] == 3
    assert len(quarantines(drover)) == 1


def read_bytes(path):
    with open(path, 'rb') as file:
        return file.read()


def harm_a_row(drover):
    with open(database(drover), 'r+b') as file:
        at = file.read().rfind(b'task.held')
        file.seek(at)
        file.write(b'T')
    assert at > 0
    drover.bad(1, 'db', 'check')


@pytest.mark.limit(90)
def test_a_restore_without_room_changes_nothing(make_drover):
    """The disk is full at one write after the other of the new database: no success is told, nothing is put aside."""
    drover = make_drover(environment={'ASAN_OPTIONS': 'detect_leaks=0'})
    drover.wait_final(drover.shell('exit 3'))
    drover.add('--hold', '--', 'true', ':::', 1, 2, 3)
    stop(drover)
    harm_a_row(drover)
    before = read_bytes(database(drover))
    log = os.path.join(drover.folder, 'strace')
    for number in (1, 2, 3, 6):
        drover.before = ['strace', '-f', '-qq', '-o', log, '-P', os.path.join(drover.state, 'restore.tmp', 'new.db'),
                         '-e', 'trace=pwrite64', '-e', f'inject=pwrite64:error=ENOSPC:when={number}+']
        done = drover.run('db', 'restore')
        drover.before = []
        if not os.path.exists(log):
            pytest.skip(f'strace cannot attach here: {done.stderr.strip()}')
        assert 'INJECTED' in harness.read(log)
        assert done.returncode == 1 and 'disk full' in done.stderr, (number, done.stdout, done.stderr)
        assert 'was restored' not in done.stdout
        assert read_bytes(database(drover)) == before and quarantines(drover) == []
    drover.good('db', 'restore')
    assert [task['state'] for task in drover.tasks()][0] == 'failed'
    assert [task['state'] for task in drover.tasks()].count('cancelled') == 3


def test_what_a_restore_set_aside_is_a_source_of_the_next(drover):
    drover.wait_final(drover.shell('exit 3'))
    drover.add('--hold', '--', 'true')
    stop(drover)
    harm_a_row(drover)
    drover.good('db', 'restore')
    stop(drover)
    harness.write(database(drover), '', 0o600)
    for name in ('drover.db-wal', 'snapshots'):
        assert not os.path.exists(os.path.join(drover.state, name))
    drover.bad(3, 'ls', says="'drover db restore'")
    assert f'{quarantines(drover)[0]}/drover.db: damaged' in drover.good('db', 'restore')
    assert [task['state'] for task in drover.tasks()] == ['failed', 'cancelled']


def test_snapshots_are_taken_by_themselves(drover):
    config = os.path.join(drover.environment['HOME'], '.config', 'drover')
    os.makedirs(config)
    harness.write(os.path.join(config, 'config.yaml'), 'keep: {snapshotEvery: 1s}\n')
    drover.good('run', '--', 'true')
    folder = os.path.join(drover.state, 'snapshots')
    harness.wait_until(lambda: os.path.isdir(folder) and [name for name in os.listdir(folder) if name.endswith('.db')], 30,
                       'a snapshot is there')
    assert 'snapshot of the database' in drover.daemon_log()


def test_db_commands_on_a_running_daemon(drover):
    drover.good('run', '--', 'true')
    path = drover.good('db', 'backup').strip()
    assert os.path.exists(path) and os.stat(path).st_mode & 0o777 == 0o600
    assert drover.json('db', 'check')['ok'] is True
    for _ in range(6):
        drover.good('run', '--', 'true')
        drover.good('db', 'backup')
    assert len(os.listdir(os.path.dirname(path))) == 4, 'only the latest are kept'
    assert os.listdir(os.path.dirname(path)) != [os.path.basename(path)]


# -- files taken away under a running daemon ---------------------------------------------------------------------------

def move_away(drover):
    os.rename(database(drover), database(drover, '.elsewhere'))


def replace(drover):
    shutil.copy(database(drover), database(drover, '.new'))
    os.rename(database(drover, '.new'), database(drover))


def remove(drover):
    os.unlink(database(drover))


@pytest.mark.limit(90)
@pytest.mark.parametrize('harm', [move_away, replace, remove, lose_log])
def test_a_database_taken_away_while_it_is_open(drover, harm):
    """Nothing is written to a file that no name leads to; what was acknowledged is kept, and restored by the command."""
    gate = drover.gate()
    running = drover.shell(f'{gate.wait}; exit 5')
    pid = drover.wait_state(running, 'running')['pid']
    held = drover.add('--hold', '--', 'true')[0]
    harm(drover)
    drover.bad(1, 'add', '--', 'touch', 'never', says=['moved, replaced or removed', "'drover db restore'"])
    assert [task['id'] for task in drover.tasks()] == [running, held]
    assert 'moved, replaced or removed' in drover.json('status')['problems'][0]
    drover.good('daemon', 'stop')
    if harm is move_away:
        os.rename(database(drover, '.elsewhere'), database(drover))
    if harm in (remove, lose_log):
        drover.bad(3, 'ls', says="'drover db restore'")
        assert '2 of them as they were' in drover.good('db', 'restore')
    assert (drover.task(running)['state'], drover.task(running)['pid']) == ('running', pid)
    assert drover.state_of(held) == 'held'
    gate.open()
    assert drover.wait_final(running)['exit_code'] == 5
    still_works(drover)
    assert not os.path.exists(os.path.join(drover.work, 'never'))


@pytest.mark.parametrize('link', [os.symlink, os.link])
def test_a_database_with_two_names_is_refused(drover, link):
    drover.good('run', '--', 'true')
    stop(drover)
    os.rename(database(drover), database(drover, '.real'))
    link(database(drover, '.real'), database(drover))
    drover.bad(3, 'ls', says='drover.db')
    os.unlink(database(drover))
    os.rename(database(drover, '.real'), database(drover))
    assert len(drover.tasks()) == 1


@pytest.mark.limit(90)
def test_state_on_a_network_file_system_is_warned_of(make_drover):
    """strace tells the daemon that its state lies on NFS."""
    drover = make_drover(environment={'ASAN_OPTIONS': 'detect_leaks=0'})
    before = ['strace', '-f', '-qq', '-o', '/dev/null', '-e', 'trace=fstatfs',
              '-e', 'inject=fstatfs:poke_exit=@arg2=6969000000000000']
    done = subprocess.run([*before, 'true'], stdin=subprocess.DEVNULL, capture_output=True, check=False)
    if done.returncode != 0:
        pytest.skip(f'strace cannot change what system calls tell: {done.stderr.decode().strip()}')
    process = drover.popen('daemon', 'start', before=before, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    drover.wait_daemon()
    assert [text for text in drover.json('status')['problems'] if 'lies on NFS' in text]
    assert 'lies on NFS' in drover.run('doctor').stdout
    assert 'lies on NFS' in drover.daemon_log()
    still_works(drover)
    stop(drover)
    process.wait(timeout=20)


# -- another program at the database -----------------------------------------------------------------------------------

@contextlib.contextmanager
def holder(drover):
    """sqlite3 with the database open in an exclusive transaction, as someone in another terminal may have it."""
    process = subprocess.Popen(['sqlite3', database(drover)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    process.stdin.write('begin exclusive;\nselect 1;\n')
    process.stdin.flush()
    assert process.stdout.readline() == '1\n'
    yield process
    process.stdin.close()
    process.wait()
    process.stdout.close()


@pytest.mark.limit(90)
def test_a_database_that_another_program_holds(drover):
    drover.good('run', '--', 'true')
    stop(drover)
    with holder(drover) as process:
        drover.bad(3, 'ls', says=[f'in use by process {process.pid}', 'try again'], limit_s=30)
    assert len(drover.tasks()) == 1, 'the keeper has tried again'


def test_nobody_gets_into_the_database_of_a_running_daemon(drover):
    drover.good('run', '--', 'true')
    for statement in ('begin exclusive', 'select * from task', 'delete from task'):
        done = subprocess.run(['sqlite3', database(drover), statement], stdin=subprocess.DEVNULL, capture_output=True,
                              text=True, check=False)
        assert done.returncode != 0 and 'locked' in done.stderr, (statement, done.stdout, done.stderr)
    still_works(drover)
    assert len(drover.tasks()) == 2


# -- whether a commit went through -------------------------------------------------------------------------------------

@pytest.mark.parametrize('place', ['committing', 'committed_not_acked', 'decided_not_committed'])
def test_a_lost_answer_makes_one_task(make_drover, place):
    """The daemon dies before it answers: the client asks again with its key, and there is one task."""
    drover = make_drover()
    once = os.path.join(drover.folder, 'once')
    drover.environment.update({'DROVER_FAIL': place, 'DROVER_FAIL_ONCE': once})
    drover.good('run', '--', 'sh', '-c', 'echo ran >> effects')
    assert os.path.exists(once), f'the place {place} was never reached'
    assert [task['id'] for task in drover.tasks()] == [1]
    assert harness.read(os.path.join(drover.work, 'effects')).split() == ['ran']


@pytest.mark.parametrize('place', ['committing', 'committed_not_acked', 'decided_not_committed'])
def test_a_lost_answer_by_the_protocol(make_drover, place):
    drover = make_drover()
    once = os.path.join(drover.folder, 'once')
    drover.environment.update({'DROVER_FAIL': place, 'DROVER_FAIL_ONCE': once})
    drover.start()

    def submit():
        raw = drover.connect()
        draft = raw.call('batch.open', {'cwd': drover.work})['draft']
        raw.call('batch.add', {'draft': draft, 'tasks': [{'command': ['true'], 'is_held': True}]})
        raw.send(json.dumps({'jsonrpc': '2.0', 'id': 9, 'method': 'batch.commit',
                             'params': {'draft': draft, 'key': 'one and only'}}).encode() + b'\n')
        answer = raw.answer()
        raw.close()
        return answer
    pid = drover.daemon_pid()
    assert submit() is None, 'it died without an answer'
    drover.wait_daemon(other_than=pid)
    answers = [submit()['result'] for _ in range(2)]
    assert answers[0] == answers[1]
    assert [task['id'] for task in drover.tasks()] == [answers[0]['first']]


# -- a state directory that cannot be written --------------------------------------------------------------------------

@contextlib.contextmanager
def read_only(drover):
    """The state directory mounted read-only for the commands in between."""
    if not harness.can_mount():
        pytest.skip('no permission for a mount namespace with a read-only directory in it')
    script = f"mount --bind '{drover.state}' '{drover.state}' && mount -o remount,bind,ro '{drover.state}' && " \
             'echo ready && exec sleep 784'
    process = subprocess.Popen(['unshare', '-m', '--propagation', 'private', 'sh', '-c', script],
                               stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    assert process.stdout.readline() == b'ready\n'
    drover.before = ['nsenter', '-m', '-t', str(process.pid), '--wd=' + drover.work, '--']
    yield
    drover.before = []
    process.kill()
    process.wait()
    process.stdout.close()


@pytest.mark.limit(90)
def test_read_only_state_is_shown_and_not_changed(drover):
    gate = drover.gate()
    done = drover.shell('echo seen; exit 3')
    drover.wait_final(done)
    running, held = drover.shell(f'{gate.wait}; exit 5'), drover.add('--hold', '--name', 'later', '--', 'true')[0]
    pid = drover.wait_state(running, 'running')['pid']
    crash(drover)  # the latest commits are in the log still
    before = {name: os.stat(os.path.join(drover.state, name)).st_mtime_ns for name in os.listdir(drover.state)}
    with read_only(drover):
        assert [task['state'] for task in drover.tasks()] == ['failed', 'running', 'held']
        assert drover.task(done)['exit_code'] == 3
        assert drover.run('logs', done).stdout == 'seen\n'
        assert 'the user holds it' in drover.good('why', 'later')
        assert 'cannot be written' in drover.json('status')['problems'][0]
        for refused in (('add', '--', 'true'), ('run', '--', 'true'), ('cancel', running), ('db', 'backup')):
            drover.bad(1, *refused, says='cannot be written')
        assert drover.good('db', 'check').startswith('the database is whole')
        assert harness.is_running(pid)
        harness.wait_until(lambda: drover.count_running('drover-daemon') == 0, 30, 'the readers have ended')
        harness.wait_until(lambda: os.listdir(drover.environment['TMPDIR']) == [], 20, 'no copy is left')
    assert before == {name: os.stat(os.path.join(drover.state, name)).st_mtime_ns for name in os.listdir(drover.state)}
    gate.open()
    assert drover.wait_final(running)['exit_code'] == 5
    drover.good('release', held)
    assert drover.wait_final(held)['state'] == 'succeeded'


def test_damaged_read_only_state_says_so(drover):
    drover.good('run', '--', 'true')
    stop(drover)
    with open(database(drover), 'r+b') as file:
        file.seek(4096 * 2)
        file.write(b'x' * 4096)
    with read_only(drover):
        drover.bad(3, 'ls', says=['cannot be written', 'damaged'])
        harness.wait_until(lambda: os.listdir(drover.environment['TMPDIR']) == [], 20, 'no copy is left')
    assert len(drover.bad(3, 'ls', says="'drover db restore'")) > 0


def test_state_of_another_user_is_refused(drover):
    drover.good('run', '--', 'true')
    stop(drover)
    os.chown(drover.state, 65534, 65534)
    try:
        drover.bad(3, 'ls', says='belongs to')
    finally:
        os.chown(drover.state, os.geteuid(), os.getegid())
    assert len(drover.tasks()) == 1
