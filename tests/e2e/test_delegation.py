"""A control group that was given to us, as a systemd service with Delegate=yes has: keeper and daemon move into a leaf of
their own, so that nobody is in the group itself and the kernel can hand controllers down to the attempts' groups."""
import contextlib
import os
import signal

import pytest

import harness
from test_keeper import find_cgroup_mount


def group_of(pid):
    lines = harness.read(f'/proc/{pid}/cgroup').splitlines()
    return [line[3:] for line in lines if line.startswith('0::')][0]


@pytest.fixture
def delegated(make_drover):
    """A drover that is started in a group of its own."""
    drover = make_drover()
    name = 'drover-test-' + os.path.basename(drover.folder)
    mount = find_cgroup_mount()
    if not mount:
        pytest.skip('there is no cgroup2 file system')
    drover.group = os.path.join(mount, name)
    try:
        os.mkdir(drover.group)
    except OSError as error:
        pytest.skip(f'no control group can be made: {error.strerror}')
    if os.path.isdir('/run/systemd/system'):
        with contextlib.suppress(OSError):
            os.setxattr(drover.group, 'user.delegate', b'1')
    drover.group_name = '/' + name
    drover.before = ['sh', '-c', f'echo $$ > {drover.group}/cgroup.procs && exec "$@"', 'sh']
    yield drover
    drover.before = []
    drover.run('daemon', 'stop', '--stop-tasks')
    harness.wait_until(lambda: not drover.processes(), 20, 'all of it has ended')
    harness.wait_until(lambda: not folders(drover.group), 10, 'nothing is left in the group')
    os.rmdir(drover.group)


def folders(path):
    return sorted(name for name in os.listdir(path) if os.path.isdir(os.path.join(path, name)))


def test_keeper_and_daemon_live_in_a_leaf(delegated):
    gate = delegated.gate()
    task = delegated.shell(f'{gate.wait}; exit 5')
    delegated.before = []
    pid = delegated.wait_state(task, 'running')['pid']
    keeper, daemon = delegated.keeper_pid(), delegated.daemon_pid()
    base, leaf = folders(delegated.group)
    assert leaf == base + '.keeper' and base.startswith('drover-')
    assert {group_of(keeper), group_of(daemon), group_of(delegated.shim_of(task))} == {f'{delegated.group_name}/{leaf}'}
    assert group_of(pid).startswith(f'{delegated.group_name}/{base}/slot-')
    assert harness.read(os.path.join(delegated.group, 'cgroup.procs')) == '', 'nobody is in the group itself'

    harness.signal_process(keeper, signal.SIGKILL)  # the next one is started from inside the leaf
    successor = harness.wait_until(lambda: (it := delegated.keeper_pid()) != keeper and it, 20, 'there is another keeper')
    assert group_of(successor) == f'{delegated.group_name}/{leaf}'
    again = delegated.shell('exit 0')
    assert delegated.wait_final(again)['state'] == 'succeeded'
    assert folders(delegated.group) == [base, leaf] and not folders(os.path.join(delegated.group, leaf))
    assert group_of(pid).startswith(f'{delegated.group_name}/{base}/slot-')
    gate.open()
    assert delegated.wait_final(task)['exit_code'] == 5


@pytest.fixture
def controller():
    """One that the topmost group hands down, or can be made to for the time of the test."""
    root = find_cgroup_mount() or pytest.skip('there is no cgroup2 file system')
    path, is_ours = os.path.join(root, 'cgroup.subtree_control'), False
    if not harness.read(path).split():
        for name in harness.read(os.path.join(root, 'cgroup.controllers')).split():
            with contextlib.suppress(OSError):
                harness.write(path, f'+{name}')
                is_ours = True
                break
    names = harness.read(path).split() or pytest.skip('no controller is to be had for groups of cgroup2')
    yield names[0]
    if is_ours:
        with contextlib.suppress(OSError):  # somebody else uses it by now
            harness.write(path, f'-{names[0]}')


def test_controllers_reach_the_attempts(controller, delegated):
    """With whichever this machine has: it can be handed down only because nobody is in the group itself."""
    gate = delegated.gate()
    task = delegated.shell(gate.wait)
    delegated.before = []
    delegated.wait_state(task, 'running')
    base = folders(delegated.group)[0]
    harness.write(os.path.join(delegated.group, 'cgroup.subtree_control'), f'+{controller}')
    assert controller in harness.read(os.path.join(delegated.group, base, 'cgroup.controllers')).split()
    gate.open()
    delegated.wait_final(task)
    harness.write(os.path.join(delegated.group, 'cgroup.subtree_control'), f'-{controller}')
