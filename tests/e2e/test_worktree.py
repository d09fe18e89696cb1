"""Tasks in worktrees: the branch with the result, and a repository that is as it was. DESIGN 5, FAULTS 44, 52."""
import hashlib
import json
import os
import shutil
import signal

import pytest

import harness
from harness import git


def fingerprint(repository):
    """What no task may change: the main worktree with its branch, index, configuration and hooks."""
    digest = hashlib.sha256()
    for folder, folders, names in os.walk(repository):
        folders[:] = sorted(name for name in folders if name not in ('.git', '.parallel-worktrees'))
        for name in sorted(names):
            path = os.path.join(folder, name)
            with open(path, 'rb') as file:
                digest.update(path.encode() + b'\0' + file.read() + b'\0')
    for name in ('index', 'config', 'HEAD'):
        with open(os.path.join(repository, '.git', name), 'rb') as file:
            digest.update(file.read())
    digest.update(' '.join(sorted(os.listdir(os.path.join(repository, '.git', 'hooks')))).encode())
    digest.update(git('rev-parse', 'HEAD', 'main', cwd=repository).encode())
    return digest.hexdigest()


@pytest.fixture
def unchanged(repository):
    """Fails when the main worktree is otherwise after the test, or the repository is damaged."""
    before = fingerprint(repository)
    yield repository
    assert git('status', '--porcelain', cwd=repository) == ''
    assert fingerprint(repository) == before
    git('fsck', '--connectivity-only', cwd=repository)


def residue(repository):
    """What an interrupted making or removing leaves."""
    found = []
    for folder, _, names in os.walk(os.path.join(repository, '.git')):
        found += [os.path.join(folder, name) for name in names if name.endswith('.lock')]
    worktrees = os.path.join(repository, '.git', 'worktrees')
    found += os.listdir(worktrees) if os.path.isdir(worktrees) else []
    return found


def test_changes_become_a_commit_on_a_branch(drover, unchanged):
    done = drover.run('run', '--worktree', '--name', 'fix', '--', 'sh', '-c',
                      'pwd; echo "$PARALLEL_WORKTREE"; echo new > new; echo changed > README; rm src/a.c')
    assert done.returncode == 0, done.stderr
    directory, told = done.stdout.split()
    assert directory == told and directory.startswith(os.path.join(unchanged, '.parallel-worktrees', ''))
    task = drover.task('fix')
    assert task['branch'] == 'parallel/fix'
    assert task['changed_files'] == 3
    assert task['commit'] == git('rev-parse', 'parallel/fix', cwd=unchanged)
    assert task['base'] == git('rev-parse', 'main', cwd=unchanged) == git('rev-parse', 'parallel/fix~1', cwd=unchanged)
    assert git('show', 'parallel/fix:new', cwd=unchanged) == 'new'
    assert git('ls-tree', '-r', '--name-only', 'parallel/fix', cwd=unchanged).split() == ['README', 'new']
    assert not os.path.exists(directory) and task['worktree'] is None
    assert residue(unchanged) == []


def test_the_branch_stays_even_when_empty(drover, unchanged):
    drover.good('run', '--worktree', '--name', 'idle', '--', 'true')
    task = drover.task('idle')
    assert task['changed_files'] == 0
    assert git('rev-parse', 'parallel/idle', cwd=unchanged) == git('rev-parse', 'main', cwd=unchanged)


def test_from_a_folder_below_the_task_stands_there_too(drover, unchanged):
    out = drover.good('run', '--worktree', '--', 'pwd', cwd=os.path.join(unchanged, 'src'))
    assert out.rstrip('\n').endswith('/src') and '.parallel-worktrees' in out


def test_a_second_task_of_that_name_gets_a_branch_of_its_own(drover, unchanged):
    for _ in range(2):
        drover.good('run', '--worktree', '--name', 'fix', '--', 'sh', '-c', 'echo $PARALLEL_TASK_ID > out')
    assert git('for-each-ref', '--format=%(refname:short)', 'refs/heads/parallel', cwd=unchanged).split() == \
        ['parallel/fix', 'parallel/fix-2']
    assert git('show', 'parallel/fix:out', cwd=unchanged) == '1'


def test_an_unnamed_task_has_its_id(drover, unchanged):
    drover.good('run', '--worktree', '--', 'true')
    assert drover.task(1)['branch'] == 'parallel/1'


def test_commits_of_the_task_are_kept(drover, unchanged):
    script = ('echo 1 > one; git add one; git -c user.name=Agent -c user.email=a@example.org commit -qm "its own"; '
              'echo 2 > two')
    drover.good('run', '--worktree', '--name', 'agent', '--', 'sh', '-c', script)
    subjects = git('log', '--format=%an %s', 'main..parallel/agent', cwd=unchanged).splitlines()
    assert len(subjects) == 2 and subjects[1] == 'Agent its own'
    assert git('show', 'parallel/agent:two', cwd=unchanged) == '2'


def test_ignored_files_are_not_committed(drover, repository):
    harness.write(os.path.join(repository, '.gitignore'), 'build/\n')
    git('add', '-A', cwd=repository)
    git('commit', '-qm', 'ignore', cwd=repository)
    drover.good('run', '--worktree', '--name', 'b', '--', 'sh', '-c', 'mkdir build; echo x > build/x; echo y > y')
    assert git('diff', '--name-only', 'main', 'parallel/b', cwd=repository) == 'y'


def test_a_failed_tasks_worktree_stays(drover, unchanged):
    assert drover.run('run', '--worktree', '--name', 'bad', '--', 'sh', '-c', 'echo half > half; exit 4').returncode == 4
    task = drover.task('bad')
    assert os.path.isdir(task['worktree'])
    assert harness.read(os.path.join(task['worktree'], 'half')) == 'half\n'
    assert git('show', 'parallel/bad:half', cwd=unchanged) == 'half'
    assert git('status', '--porcelain', cwd=unchanged) == ''


def test_work_of_a_failed_attempt_is_salvaged(drover, unchanged):
    harness.write(os.path.join(drover.folder, 'b.yaml'), f'''
tasks:
  - name: flaky
    run: "echo x >> {drover.folder}/tries; n=$(wc -l < {drover.folder}/tries); echo $n > attempt-$n; test $n -ge 2"
    worktree: checkout
    retries: 1
    retryDelay: 10ms
''')
    drover.good('run', '-f', os.path.join(drover.folder, 'b.yaml'))
    task = drover.task('flaky')
    assert task['attempt'] == 2
    assert git('ls-tree', '--name-only', 'parallel/flaky', cwd=unchanged).split() == ['README', 'attempt-2', 'src']
    assert git('show', f'{task["salvage"]}:attempt-1', cwd=unchanged) == '1'


def test_a_cancelled_task_loses_nothing(drover, unchanged):
    task = drover.add('--worktree', '--name', 'long', '--', 'sh', '-c', 'echo half > half; sleep 1000')[0]
    place = harness.wait_until(lambda: drover.task(task)['worktree'], 20, 'its worktree')
    harness.wait_until(lambda: os.path.exists(os.path.join(place, 'half')), 20, 'its file')
    drover.good('cancel', task)
    assert drover.wait_final(task)['state'] == 'cancelled'
    assert git('show', 'parallel/long:half', cwd=unchanged) == 'half'


def test_the_base_is_pinned_at_submission(drover, repository):
    gate = drover.gate()
    first = drover.shell(gate.wait)
    second = drover.add('--after', str(first), '--worktree', '--name', 'pinned', '--', 'true')[0]
    old = git('rev-parse', 'HEAD', cwd=repository)
    harness.write(os.path.join(repository, 'later'), 'x')
    git('add', '-A', cwd=repository)
    git('commit', '-qm', 'later', cwd=repository)
    gate.open()
    drover.wait_state(second, 'succeeded')
    assert git('rev-parse', 'parallel/pinned', cwd=repository) == old


def test_base_can_be_chosen(drover, unchanged):
    git('branch', 'elsewhere', cwd=unchanged)
    drover.good('run', '--worktree', '--base', 'elsewhere', '--name', 'a', '--', 'true')
    drover.bad(2, 'run', '--worktree', '--base', 'no-such-branch', '--', 'true', says='no-such-branch')


def test_a_dirty_main_worktree_is_left_alone(drover, repository):
    harness.write(os.path.join(repository, 'README'), 'edited\n')
    harness.write(os.path.join(repository, 'untracked'), 'u\n')
    before = git('status', '--porcelain', cwd=repository)
    drover.good('run', '--worktree', '--', 'sh', '-c', 'grep -q hello README && test ! -e untracked')
    assert git('status', '--porcelain', cwd=repository) == before


def test_what_a_later_task_is_told(drover, unchanged):
    harness.write(os.path.join(drover.folder, 'b.yaml'), '''
defaults: {worktree: checkout}
tasks:
  - {name: good, run: "echo g > g"}
  - {name: bad, run: "echo b > b; exit 3"}
  - {name: sum, run: 'cat "$DROVER_AFTER"', afterAny: [good, bad], worktree: none}
''')
    assert drover.run('run', '-f', os.path.join(drover.folder, 'b.yaml')).returncode == 1
    told = {row['name']: row for row in json.loads(drover.log('sum'))}
    assert set(told) == {'good', 'bad'}
    assert set(told['good']) == {'id', 'name', 'state', 'branch', 'commit', 'log_path'}
    assert (told['good']['state'], told['bad']['state']) == ('succeeded', 'failed')
    assert told['good']['commit'] == git('rev-parse', told['good']['branch'], cwd=unchanged)
    assert os.path.exists(told['bad']['log_path'])


def test_the_example_file(drover, repository):
    """examples/maintenance.yaml with stand-ins for its scripts: the demo needs programs that check does not install."""
    shutil.copytree(os.path.join(harness.ROOT, 'examples'), os.path.join(repository, 'examples'))
    scripts = os.path.join(repository, 'examples', 'maintenance')
    for name in os.listdir(scripts):
        harness.write(os.path.join(scripts, name), 'mkdir reports && cat "${DROVER_AFTER:-/dev/null}" > "reports/$1.md"\n')
    git('add', '-A', cwd=repository)
    git('commit', '-qm', 'examples', cwd=repository)
    drover.good('run', '-f', 'examples/maintenance.yaml')
    names = sorted(task['name'] for task in drover.tasks())
    assert len(names) >= 9
    branches = git('for-each-ref', '--format=%(refname:lstrip=3)', 'refs/heads/parallel', cwd=repository)
    assert sorted(branches.split()) == names
    told = json.loads(git('show', 'parallel/summary:reports/summary.md', cwd=repository))
    assert sorted(row['name'] for row in told) == [name for name in names if name != 'summary']
    assert git('status', '--porcelain', cwd=repository) == ''


def test_many_at_once(drover, unchanged):
    drover.good('run', '--worktree', '-j', 8, 'sh', '-c', 'echo {} > value', ':::', *range(24))
    branches = git('for-each-ref', '--format=%(refname:short)', 'refs/heads/parallel', cwd=unchanged).split()
    assert len(branches) == 24
    assert sorted(int(git('show', f'{branch}:value', cwd=unchanged)) for branch in branches) == list(range(24))
    assert residue(unchanged) == []


def test_from_a_linked_worktree(drover, repository):
    linked = os.path.join(drover.folder, 'linked')
    git('worktree', 'add', '-q', linked, '-b', 'side', cwd=repository)
    drover.good('run', '--worktree', '--name', 'x', '--', 'sh', '-c', 'echo x > x', cwd=linked)
    assert git('show', 'parallel/x:x', cwd=repository) == 'x'
    assert git('status', '--porcelain', cwd=linked) == ''


def test_from_a_hook_in_a_linked_worktree(drover, repository):
    """Such a hook has GIT_DIR and GIT_INDEX_FILE set: passed on, they would make a task's git write into this index."""
    linked = os.path.join(drover.folder, 'linked')
    git('worktree', 'add', '-q', linked, '-b', 'side', cwd=repository)
    out = os.path.join(drover.folder, 'hook-output')
    command = ('echo new > from-hook; git add from-hook; git rev-parse --show-toplevel; env | grep ^GIT_; '
               'git -c user.name=A -c user.email=a@example.org commit -qm hooked')
    harness.write(os.path.join(repository, '.git', 'hooks', 'post-commit'),
                  f"#!/bin/sh\ncase $(git rev-parse --abbrev-ref HEAD) in side) ;; *) exit 0 ;; esac\n"
                  f"exec '{drover.client}' run --worktree --name hooked -- sh -c '{command}' > '{out}' 2>&1\n", 0o755)
    harness.write(os.path.join(linked, 'mine'), 'm\n')
    git('add', 'mine', cwd=linked)
    git('commit', '-qm', 'mine', cwd=linked, **drover.environment)
    said = harness.read(out)
    assert drover.wait_final('hooked')['state'] == 'succeeded', said
    assert 'GIT_' not in said and '.parallel-worktrees' in said
    assert git('show', 'parallel/hooked:from-hook', cwd=repository) == 'new'
    assert git('status', '--porcelain', cwd=linked) == ''
    assert git('ls-tree', '--name-only', 'side', cwd=repository).split() == ['README', 'mine', 'src']
    assert git('config', '--get', 'core.bare', cwd=repository) == 'false'
    git('fsck', '--connectivity-only', cwd=repository)


def test_hostile_configuration_is_not_run(drover, repository):
    """What the repository's configuration, hooks and attributes would run, drover's own git calls do not."""
    trap = os.path.join(drover.folder, 'trapped')
    script = harness.write(os.path.join(drover.folder, 'evil'), f'#!/bin/sh\necho "$0 $*" >> {trap}\ncat\n', 0o755)
    for key in ('core.fsmonitor', 'filter.evil.clean', 'filter.evil.smudge', 'diff.external', 'core.pager'):
        git('config', key, script, cwd=repository)
    harness.write(os.path.join(repository, '.git', 'info', 'attributes'), '* filter=evil diff=evil\n')
    for hook in ('post-checkout', 'pre-commit', 'reference-transaction', 'post-commit', 'commit-msg'):
        os.symlink(script, os.path.join(repository, '.git', 'hooks', hook))
    drover.good('run', '--worktree', '--name', 'x', '--', 'sh', '-c', 'echo x > x')
    assert not os.path.exists(trap), harness.read(trap)


@pytest.mark.parametrize('kind, words', [('none', ['repository']), ('bare', ['bare']), ('empty', ['commit'])])
def test_where_no_worktree_can_be(drover, kind, words):
    folder = os.path.join(drover.folder, kind)
    os.mkdir(folder)
    if kind != 'none':
        git('init', '-q', *(['--bare'] if kind == 'bare' else []), cwd=folder)
    before = sorted(os.listdir(folder))
    drover.bad(2, 'run', '--worktree', '--', 'true', cwd=folder, says=words, env={'GIT_CEILING_DIRECTORIES': drover.folder})
    assert sorted(os.listdir(folder)) == before and drover.tasks() == []


@pytest.mark.limit(180)
def test_the_daemon_killed_among_worktrees(drover, unchanged):
    """Killed while worktrees are made, worked in and collected: all results are there, nothing else is."""
    ids = drover.add('--worktree', '-j', 6, 'sh', '-c', 'echo {} > value', ':::', *range(30))
    assert len(ids) == 30

    def branch_count():
        return len(git('for-each-ref', 'refs/heads/parallel', cwd=unchanged).splitlines())
    for done in (4, 12, 20):
        harness.wait_until(lambda least=done: branch_count() >= least, 60, f'{done} branches')
        pid = drover.kill_daemon()
        drover.wait_daemon(other_than=pid)
    for task in ids:
        done = drover.wait_final(task, limit_s=90)
        assert done['state'] == 'succeeded', f'{task}: {done["cause"]}'
    branches = git('for-each-ref', '--format=%(refname:short)', 'refs/heads/parallel', cwd=unchanged).split()
    assert sorted(int(git('show', f'{branch}:value', cwd=unchanged)) for branch in branches) == list(range(30))
    harness.wait_until(lambda: residue(unchanged) == [], 20, 'no residue')


@pytest.mark.limit(120)
def test_helpers_killed_in_their_work(drover, unchanged):
    """drover-worktree killed wherever it is: the next try finishes or undoes what it left."""
    drover.start()
    client = drover.popen('run', '--worktree', '-j', 4, '--retries', 3, 'sh', '-c', 'echo {} > value', ':::', *range(12))
    killed = 0
    while client.poll() is None and killed < 3:
        for pid, line in drover.processes():
            if 'drover-worktree' in line:
                harness.signal_process(pid, signal.SIGKILL)
                killed += 1
                break
    client.communicate(timeout=90)
    for task in drover.tasks():
        if task['state'] != 'succeeded':
            assert 'worktree' in (task['cause'] or ''), task
            continue
        git('rev-parse', task['branch'] + ':value', cwd=unchanged)
    assert [path for path in residue(unchanged) if path.endswith('.lock')] == []
