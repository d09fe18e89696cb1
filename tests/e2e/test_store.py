"""The database under faults: disks that fail, files that are lost, damaged or held. FAULTS 14 to 20."""
import contextlib
import os
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
