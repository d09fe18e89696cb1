"""A task does what it likes to its own surroundings, to itself and to those above it (FAULTS 39): nothing is assumed of it.

All with cgroups and without.
"""
import os
import signal
import sys

import pytest

import harness
from test_suspend import drover, running, wait_wall  # noqa: F401 - the fixture for both worlds

PRCTL = 'import ctypes, os, signal, sys\nlibc = ctypes.CDLL(None)\n'


def python(drover, script, *options):
    """A task in Python that said something."""
    path = harness.write(os.path.join(drover.folder, f'script{len(os.listdir(drover.folder))}.py'), PRCTL + script)
    task = drover.add(*options, '--', sys.executable, '-u', path)[0]
    harness.wait_until(lambda: drover.task(task)['state'] != 'queued' and drover.task(task)['pid'] and drover.log(task), 20)
    return task


def check_obedience(drover, task):
    """It is suspended, resumed and ended like any other, all of it."""
    pid = drover.task(task)['pid']
    drover.good('suspend', task)
    drover.good('resume', task)
    assert drover.state_of(task) == 'running'
    drover.good('cancel', task)
    assert drover.wait_final(task)['state'] == 'cancelled'
    harness.wait_gone(pid)


SCRIPTS = {
    'directory removed': ('mkdir own; cd own; rmdir ../own; echo on; exit 5', 'on\n'),
    'directory of others': ('cd /proc/self; echo on; exit 5', 'on\n'),
    'limits': ('ulimit -f 0; ulimit -n 3; ulimit -c 0; echo on; exit 5', 'on\n'),
    'mask': ('umask 777; echo on; exit 5', 'on\n'),
    'output closed': ('echo on; exec < /dev/null > /dev/null 2>&1; exit 5', 'on\n'),
    'all closed': ('echo on; exec 0<&- 1>&- 2>&-; exit 5', 'on\n'),
    'another program': ('echo on; exec sh -c "exec sh -c \'exit 5\'"', 'on\n'),
    'output elsewhere': ('echo on; exec 2> elsewhere 1>&2; echo off; exit 5', 'on\n'),
    'its shim stopped': ('kill -STOP $PPID; echo on; exit 5', 'on\n'),
    'signals to its shim': ('kill -HUP $PPID; kill -INT $PPID; kill -QUIT $PPID; kill -CONT $PPID; echo on; exit 5', 'on\n'),
}


@pytest.mark.parametrize('name', sorted(SCRIPTS))
def test_end_and_output_are_as_ever(drover, name):  # noqa: F811
    script, output = SCRIPTS[name]
    task = drover.shell(script)
    done = drover.wait_final(task)
    assert (done['state'], done['exit_code'], done['attempt']) == ('failed', 5, 1)
    assert drover.log(task).decode() == output


def test_output_closed_while_it_runs(drover):  # noqa: F811
    """No end of its output is the end of the task, and nobody spins for want of it."""
    task = running(drover, 'echo up; exec 0<&- 1>&- 2>&-; while :; do :; done')
    shim = drover.shim_of(task)

    def used():
        fields = harness.stat_fields(shim)
        return int(fields[11]) + int(fields[12])
    before = used()
    wait_wall(0.5)
    assert used() - before < 20  # hundredths of a second
    check_obedience(drover, task)


def test_a_name_that_looks_like_a_line_of_stat(drover):  # noqa: F811
    check_obedience(drover, python(drover, 'libc.prctl(15, b") Z 1 (\\n) 1", 0, 0, 0)\nprint("up")\nwhile True: pass\n'))


def test_a_subreaper_with_sessions_below(drover):  # noqa: F811
    """Its orphans are its own, not the shim's; they go with it all the same."""
    script = '''
signal.signal(signal.SIGTERM, signal.SIG_IGN)
libc.prctl(36, 1, 0, 0, 0)
for _ in range(3):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.write(1, b'%d' % os.getpid() + bytes([10]))
            while True: signal.pause()
        os._exit(0)
while True: signal.pause()
'''
    task = python(drover, script, '--grace', '200ms')
    harness.wait_until(lambda: len(drover.log(task).split()) == 3, 20, 'all are there')
    orphans = [int(word) for word in drover.log(task).split()]
    check_obedience(drover, task)
    for pid in orphans:
        harness.wait_gone(pid)


def test_its_own_process_group_stopped(drover):  # noqa: F811
    """It hears that it is to end: long before its grace is over."""
    task = drover.shell('trap "echo bye; exit 1" TERM; echo up; kill -STOP 0; while :; do :; done', '--grace', '40s')
    harness.wait_until(lambda: (harness.stat_fields(drover.task(task)['pid'] or 0) or [b''])[0] == b'T', 20, 'stopped')
    drover.good('suspend', task)
    drover.good('resume', task)
    assert harness.stat_fields(drover.task(task)['pid'])[0] == b'T'  # by its own wish
    drover.good('cancel', task)
    assert drover.wait_final(task, limit_s=20)['state'] == 'cancelled'
    assert drover.log(task) == b'up\nbye\n'


def test_shim_killed_by_its_task(drover):  # noqa: F811
    """FAULTS 38: noticed as the death of the shim; the task goes on and can be ended."""
    task = running(drover, 'kill -9 $PPID; echo up; while :; do :; done')
    harness.wait_until(lambda: drover.task(task)['conditions'] == ['lost-shim'], 20, 'the daemon knows')
    check_obedience(drover, task)


def test_signals_of_the_daemon_sent_by_the_task(drover):  # noqa: F811
    """By SIGUSR1 it has itself killed, by the other one frozen: it harms nobody else, and can still be ended."""
    task = drover.shell('echo up; kill -USR1 $PPID; while :; do :; done')
    done = drover.wait_final(task)
    assert (done['state'], done['cause']) == ('failed', 'signal SIGKILL')
    task = python(drover, f'print("up")\nlibc.sigqueue(os.getppid(), {signal.SIGRTMIN + 6}, ctypes.c_void_p(1))\n'
                          'while True: pass\n')
    drover.good('cancel', task)
    assert drover.wait_final(task)['state'] == 'cancelled'


@pytest.mark.limit(90)
def test_shim_traced_by_its_task(drover):  # noqa: F811
    """It can do nothing then; the second order to kill goes past it, as far as there is a cgroup."""
    if not {r['name']: r['is_best'] for r in (drover.daemon_status() or {'capabilities': []})['capabilities']}.get(
            'process trees', True):
        pytest.skip('needs a cgroup: without one nobody else knows what belongs to the task')
    script = 'signal.signal(signal.SIGTERM, signal.SIG_IGN)\n' \
             'libc.ptrace(16, os.getppid(), 0, 0) == 0 or sys.exit(77)\nwhile True: pass\n'
    path = harness.write(os.path.join(drover.folder, 'tracer.py'), PRCTL + script)
    task = drover.add('--grace', '200ms', '--', sys.executable, path)[0]
    shim = drover.shim_of(task)
    harness.wait_until(lambda: drover.state_of(task) == 'failed' or harness.stat_fields(shim)[0] == b't', 20, 'it traces')
    if drover.state_of(task) == 'failed':
        pytest.skip('this machine lets nobody trace its parent (ptrace_scope)')
    drover.run('cancel', task)
    assert drover.wait_final(task, limit_s=40)['state'] == 'cancelled'
