"""The daemon's life: starting, being alone, stopping, starting again. FAULTS 3, 4, 5, 6, 8."""
import json
import os
import signal
import socket
import subprocess

import pytest

import harness


def keeper(drover, **more):
    """Another keeper on the same state directory, run to its end."""
    return subprocess.run([os.path.join(drover.programs, 'drover-keeper'), '--state', drover.state],
                          env=drover.environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          timeout=30, text=True, check=False, **more)


@pytest.mark.limit(90)
def test_twenty_clients_at_once_start_one(drover):
    clients = [drover.popen('run', '--', 'echo', str(number)) for number in range(20)]
    for number, client in enumerate(clients):
        out, err = client.communicate(timeout=60)
        assert (client.returncode, out) == (0, f'{number}\n'.encode()), err
    assert drover.count_running('drover-daemon') == 1
    harness.wait_until(lambda: drover.count_running('drover-keeper') >= 1, 5)
    assert len({task['id'] for task in drover.tasks()}) == 20


def test_a_second_daemon_exits_3_and_names_the_holder(drover):
    pid = drover.start()
    done = keeper(drover)
    assert done.returncode == 3
    assert str(pid) in done.stderr or str(drover.keeper_pid()) in done.stderr, done.stderr
    assert drover.daemon_pid() == pid
    assert drover.good('run', '--', 'echo', 'still here') == 'still here\n'


def test_status_without_a_daemon(drover):
    assert drover.daemon_status() is None
    assert drover.count_running('drover-daemon') == 0
    done = drover.run('daemon', 'status', '--json')
    assert done.returncode == 3
    status = json.loads(done.stdout)
    assert (status['running'], status['pid'], status['state_dir']) == (False, None, drover.state)
    assert drover.count_running('drover-daemon') == 0


def test_status_and_its_fields(drover):
    drover.start()
    status = drover.daemon_status()
    assert status['running'] is True and status['protocol'] == 1 and status['state_dir'] == drover.state
    assert os.path.exists(status['socket']) and status['uptime_s'] >= 0
    general = drover.json('status')
    assert general['slots'] >= 1 and general['running'] == 0 and general['problems'] == []
    assert os.stat(os.path.dirname(status['socket'])).st_mode & 0o777 == 0o700
    assert os.stat(status['socket']).st_mode & 0o777 == 0o600


def test_doctor_and_version(drover):
    version = drover.json('version')
    assert version['protocol'] == 1 and version['version'] in drover.good('version')
    assert drover.count_running('drover-daemon') == 0
    drover.start()
    said = drover.good('doctor')
    assert 'kernel' in said and 'cgroup' in said
    json.loads(drover.good('doctor', '--json'))


def test_stop_and_start_again(drover):
    first = drover.start()
    drover.good('run', '--', 'true')
    drover.good('daemon', 'stop')
    harness.wait_gone(first)
    assert drover.daemon_status() is None
    second = drover.start()
    assert second != first
    assert [task['id'] for task in drover.tasks()] == [1]
    assert drover.add('--', 'true') == [2]


def test_stop_leaves_tasks_running(drover):
    gate = drover.gate()
    task = drover.shell(f'echo before; {gate.wait}; echo after; exit 6')
    drover.wait_state(task, 'running')
    leader, daemon = drover.task(task)['pid'], drover.daemon_pid()
    drover.good('daemon', 'stop')
    harness.wait_gone(daemon)
    assert harness.is_running(leader)
    assert drover.daemon_status() is None
    drover.start()
    assert (drover.task(task)['state'], drover.task(task)['pid']) == ('running', leader)
    gate.open()
    done = drover.wait_final(task)
    assert (done['state'], done['exit_code'], done['attempt']) == ('failed', 6, 1)
    assert drover.log(task) == b'before\nafter\n'


def test_what_ended_while_no_daemon_was_there_is_learnt(drover):
    gate = drover.gate()
    tasks = drover.add('-j', 4, 'sh', '-c', gate.wait + '; echo {}; exit {}', ':::', *range(4))
    for task in tasks:
        drover.wait_state(task, 'running')
    leaders = [drover.task(task)['pid'] for task in tasks]
    drover.good('daemon', 'stop')
    gate.open()
    for leader in leaders:
        harness.wait_gone(leader)
    drover.start()
    for number, task in enumerate(tasks):
        done = drover.wait_final(task)
        assert (done['exit_code'], done['attempt']) == (number, 1)
        assert drover.log(task) == f'{number}\n'.encode()


def test_stop_with_tasks_ends_them(drover):
    task = drover.shell('sleep 782')
    drover.wait_state(task, 'running')
    leader = drover.task(task)['pid']
    drover.good('daemon', 'stop', '--stop-tasks')
    assert not harness.is_running(leader)
    drover.start()
    assert drover.state_of(task) == 'cancelled'


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGHUP, signal.SIGINT], ids=['TERM', 'HUP', 'INT'])
def test_signals_to_the_daemon_end_no_task(drover, number):
    gate = drover.gate()
    task = drover.shell(f'{gate.wait}; echo done')
    drover.wait_state(task, 'running')
    leader, daemon = drover.task(task)['pid'], drover.daemon_pid()
    harness.signal_process(daemon, number)
    if number == signal.SIGTERM:
        harness.wait_gone(daemon)
    drover.start()
    assert drover.task(task)['pid'] == leader
    gate.open()
    done = drover.wait_final(task)
    assert (done['state'], done['attempt']) == ('succeeded', 1)


def test_the_end_of_the_clients_session_ends_nothing(drover):
    """A client in a session of its own starts the daemon; then the whole session is hung up and killed."""
    gate = drover.gate()
    client = drover.popen('run', '--', 'sh', '-c', f'{gate.wait}; echo done', start_new_session=True)
    drover.wait_state(1, 'running')
    leader, daemon = drover.task(1)['pid'], drover.daemon_pid()
    os.killpg(client.pid, signal.SIGHUP)
    os.killpg(client.pid, signal.SIGKILL)
    client.communicate()
    assert drover.daemon_pid() == daemon and harness.is_running(leader)
    gate.open()
    assert drover.wait_final(1)['state'] == 'succeeded'


def test_stale_files_and_a_stranger_with_the_old_pid(drover):
    """Lock, pid and socket files of a machine that lost power; a stranger has the daemon's old pid."""
    drover.start()
    status = drover.daemon_status()
    drover.good('daemon', 'stop')
    harness.wait_until(lambda: drover.processes() == [], 20, 'all of it has ended')
    stranger = subprocess.Popen(['sleep', '783'], stdin=subprocess.DEVNULL)
    try:
        for name in ('daemon.lock', 'keeper.lock'):
            harness.write(os.path.join(drover.state, name),
                          f'pid {stranger.pid}\nsocket {status["socket"]}\nversion 0.0.1\n', 0o600)
        stale = socket.socket(socket.AF_UNIX)
        if not os.path.exists(status['socket']):
            os.makedirs(os.path.dirname(status['socket']), mode=0o700, exist_ok=True)
            stale.bind(status['socket'])
        stale.close()
        assert drover.good('run', '--', 'echo', 'fine') == 'fine\n'
        drover.good('daemon', 'stop', '--stop-tasks')
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


@pytest.mark.parametrize('garbage', ['', 'pid 1\n', '\0' * 100, 'socket relative\n', 'socket /nowhere/x.sock\n'])
def test_a_damaged_lock_file(drover, garbage):
    harness.write(os.path.join(drover.state, 'daemon.lock'), garbage, 0o600)
    assert drover.good('run', '--', 'echo', 'fine') == 'fine\n'


def test_a_socket_that_vanished_is_made_again(drover):
    drover.start()
    status = drover.daemon_status()
    os.unlink(status['socket'])
    harness.wait_until(lambda: os.path.exists(status['socket']), 30, 'the socket is there again')
    assert drover.daemon_pid() == status['pid']


def test_the_lock_file_names_the_socket(drover):
    """Cron, sudo and MCP hosts have no XDG_RUNTIME_DIR and still find the daemon."""
    environment = {'DROVER_STATE_DIR': None, 'XDG_STATE_HOME': os.path.join(drover.folder, 'xdg')}
    os.mkdir(environment['XDG_STATE_HOME'], mode=0o700)
    os.chmod(drover.environment['XDG_RUNTIME_DIR'], 0o700)
    drover.good('daemon', 'start', env=environment)
    started = drover.json('daemon', 'status', env=environment)
    try:
        assert started['socket'].startswith(drover.environment['XDG_RUNTIME_DIR'])
        found = drover.json('daemon', 'status', env=dict(environment, XDG_RUNTIME_DIR=None))
        assert found['pid'] == started['pid']
    finally:
        drover.run('daemon', 'stop', '--stop-tasks', env=environment)
    harness.wait_gone(started['pid'])


def test_other_users_read_nothing(drover):
    drover.good('run', '--', 'echo', 'secret')
    assert os.stat(drover.state).st_mode & 0o077 == 0


def test_a_state_directory_open_to_all_is_refused(drover):
    os.chmod(drover.state, 0o777)
    drover.bad(3, 'run', '--', 'true', says=drover.state)


@pytest.mark.limit(150)
def test_restart_under_load_loses_nothing(drover):
    ids = drover.add('-j', 6, 'sh', '-c', 'sleep 0.05; echo $PARALLEL_TASK_ID >> effects', ':::', *range(120))
    effects = os.path.join(drover.work, 'effects')
    for count in (10, 40, 80):
        harness.wait_until(lambda least=count: os.path.exists(effects) and len(harness.read(effects).split()) >= least, 60,
                           f'{count} effects')
        before = drover.daemon_pid()
        drover.good('daemon', 'restart')
        assert drover.wait_daemon() != before
    assert drover.run('wait', '--all', limit_s=90).returncode == 0
    assert sorted(map(int, harness.read(effects).split())) == ids
    assert {(task['state'], task['attempt']) for task in drover.tasks()} == {('succeeded', 1)}


@pytest.mark.limit(90)
def test_clients_wait_across_a_restart(drover):
    gate = drover.gate()
    client = drover.popen('run', '--', 'sh', '-c', f'echo one; {gate.wait}; echo two; exit 5')
    drover.wait_state(1, 'running')
    drover.good('daemon', 'restart')
    drover.wait_daemon()
    gate.open()
    out, _ = client.communicate(timeout=60)
    assert (client.returncode, out) == (5, b'one\ntwo\n')


def test_the_next_is_started_as_soon_as_the_keeper_is_gone(make_drover):
    """As a service manager does it: a daemon that takes its time to end must not stand in the way of the next one."""
    drover = make_drover(environment={'ASAN_OPTIONS': 'detect_leaks=0'})
    pid = drover.start()
    keeper = drover.keeper_pid()
    tracer = subprocess.Popen(['strace', '-f', '-o', '/dev/null', '-e', 'trace=exit_group',
                               '-e', 'inject=exit_group:delay_enter=1200000', '-p', str(pid)],
                              stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
    line = tracer.stderr.readline()
    if b'attached' not in line:
        tracer.wait()
        pytest.skip(f'strace cannot attach here: {line.decode()}')
    harness.signal_process(keeper, signal.SIGTERM)
    harness.wait_gone(keeper)
    assert drover.start() != pid
    tracer.wait()
    tracer.stderr.close()
