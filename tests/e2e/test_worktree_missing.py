"""A worktree that is deleted, replaced or moved under its running task: told once, nothing else is touched. FAULTS 47."""
import os
import shutil

import pytest

import harness
from harness import git, read, write


def lose(kind, path, elsewhere):
    """What happens to the worktree; `elsewhere` is a directory with something precious in it."""
    if kind == 'moved':
        os.rename(path, elsewhere + '-moved')
    elif kind == 'root-gone':
        shutil.rmtree(os.path.dirname(path))
    elif kind == 'root-moved':
        os.rename(os.path.dirname(path), elsewhere + '-moved')
    else:
        shutil.rmtree(path)
    if kind == 'link':
        os.symlink(elsewhere, path)
    elif kind == 'file':
        write(path, 'in the way\n')
    elif kind == 'directory':
        os.mkdir(path)
        write(os.path.join(path, 'foreign'), 'f\n')


KINDS = ['gone', 'moved', 'link', 'file', 'directory', 'root-gone', 'root-moved']


@pytest.fixture
def running(drover, repository):
    """A task that has committed something in its worktree and waits at a gate."""
    gate = drover.gate()
    task = drover.shell('echo own > own; git add own; git -c user.name=A -c user.email=a@example.org commit -qm own; '
                        'touch ready; ' + gate.wait, '--worktree', '--name', 'fix')
    path = harness.wait_until(lambda: drover.task(task)['worktree'], 20, 'its worktree')
    harness.wait_until(lambda: os.path.exists(os.path.join(path, 'ready')), 20, 'it has committed')
    elsewhere = os.path.join(drover.folder, 'elsewhere')
    os.mkdir(elsewhere)
    write(os.path.join(elsewhere, 'precious'), 'p\n')
    return task, path, gate, elsewhere


def conditions(drover, task):
    return drover.task(task)['conditions']


def complaints(drover):
    return drover.daemon_log().count('was deleted, replaced or moved while it runs')


@pytest.mark.parametrize('kind', KINDS)
def test_it_is_told_while_the_task_runs(drover, repository, running, kind):
    task, path, gate, elsewhere = running
    assert conditions(drover, task) == []
    before = drover.daemon_pid()
    lose(kind, path, elsewhere)
    harness.wait_until(lambda: conditions(drover, task) == ['worktree-missing'], 10, 'the condition')
    assert drover.state_of(task) == 'running'
    assert 'is running; worktree-missing' in drover.good('why', task)
    assert 'worktree-missing' in drover.good('show', task)
    own = git('rev-parse', 'parallel/fix', cwd=repository)
    gate.open()
    done = drover.wait_final(task)
    assert done['conditions'] == ['worktree-missing'] and done['state'] == 'failed', done
    assert "worktree '" in done['cause'] and 'its branch was kept' in done['cause'], done
    assert done['commit'] == own and done['worktree'] is None and done['attempt'] == 1
    # Once, no new daemon, and nothing was touched where the link leads, or what stands in the place.
    assert complaints(drover) == 1 and drover.daemon_pid() == before
    assert os.listdir(elsewhere) == ['precious'] and read(os.path.join(elsewhere, 'precious')) == 'p\n'
    assert git('show', 'parallel/fix:own', cwd=repository) == 'own'
    if kind == 'link':
        assert os.path.islink(path)
    if kind == 'file':
        assert read(path) == 'in the way\n'
    if kind == 'directory':
        assert os.listdir(path) == ['foreign']
    if kind == 'moved':
        assert read(os.path.join(elsewhere + '-moved', 'own')) == 'own\n'
    git('fsck', '--connectivity-only', cwd=repository)
    # The next one of that name is served.
    drover.good('run', '--worktree', '--name', 'fix', '--', 'sh', '-c', 'echo x > x')
    assert git('status', '--porcelain', cwd=repository) == ''


@pytest.mark.parametrize('kind', ['gone', 'link'])
def test_while_the_daemon_is_away(drover, running, kind):
    """The next daemon sees it when it takes the task over; and once more only there."""
    task, path, gate, elsewhere = running
    drover.good('daemon', 'stop')
    lose(kind, path, elsewhere)
    drover.start()
    harness.wait_until(lambda: conditions(drover, task) == ['worktree-missing'], 10, 'the condition')
    drover.kill_daemon()
    drover.wait_daemon()
    assert conditions(drover, task) == ['worktree-missing'] and drover.state_of(task) == 'running'
    gate.open()
    assert drover.wait_final(task)['conditions'] == ['worktree-missing']
    assert complaints(drover) == 2  # one of each daemon
    assert os.listdir(elsewhere) == ['precious']


def test_one_that_comes_back(drover, repository, running):
    """As when a user moves it aside to look at it: nothing is lost, and nothing is said any more."""
    task, path, gate, _ = running
    os.rename(path, path + '-aside')
    harness.wait_until(lambda: conditions(drover, task) == ['worktree-missing'], 10, 'the condition')
    os.rename(path + '-aside', path)
    gate.open()
    done = drover.wait_final(task)
    assert (done['state'], done['conditions']) == ('succeeded', [])
    assert git('show', 'parallel/fix:ready', cwd=repository) == ''
    assert complaints(drover) == 1


def test_the_work_of_others_says_nothing(drover, repository, running):
    """Beside it worktrees come and go, and a foreign prune is at work."""
    task, path, gate, _ = running
    drover.good('run', '--worktree', '-j', 4, 'sh', '-c', 'echo {} > v', ':::', *range(8))
    git('worktree', 'prune', '--expire=now', cwd=repository)
    os.mkdir(os.path.join(os.path.dirname(path), 'foreign'))
    os.rmdir(os.path.join(os.path.dirname(path), 'foreign'))
    assert conditions(drover, task) == [] and complaints(drover) == 0
    gate.open()
    assert drover.wait_final(task)['state'] == 'succeeded'


def test_a_task_that_deletes_its_own_worktree_and_is_tried_again(drover, repository):
    """Each attempt gets a worktree; retries end where they end."""
    task = drover.shell('rm -rf "$PARALLEL_WORKTREE"; exit 3', '--worktree', '--name', 'fix', '--retries', 2)
    done = drover.wait_final(task)
    assert done['state'] == 'failed' and done['attempt'] == 3
    assert git('rev-parse', 'parallel/fix', cwd=repository) == git('rev-parse', 'main', cwd=repository)
    assert not os.path.exists(os.path.join(repository, '.parallel-worktrees', 'fix'))
    assert git('status', '--porcelain', cwd=repository) == ''
