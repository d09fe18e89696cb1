"""drover worktree ls, rm, prune: what drover made, and removing it without losing work. DESIGN 5, FAULTS 47, 51."""
import json
import os
import re
import signal
import subprocess

import pytest

import harness
from harness import git, read, write

FIELDS = {'id', 'task', 'attempt', 'name', 'state', 'repository', 'path', 'branch', 'base', 'head', 'condition', 'problem',
          'changed', 'untracked', 'ignored', 'unmerged', 'base_branch', 'unpushed', 'disk_bytes', 'is_locked',
          'lock_reason', 'is_collected', 'created_at', 'age_s'}


@pytest.fixture
def sound(repository):
    """The user's part of the repository is as it was, and no object is missing."""
    before = git('rev-parse', 'HEAD', 'main', cwd=repository), git('status', '--porcelain', cwd=repository)
    yield repository
    assert (git('rev-parse', 'HEAD', 'main', cwd=repository), git('status', '--porcelain', cwd=repository)) == before
    git('fsck', '--connectivity-only', cwd=repository)


def fail_task(drover, name, script='echo half > half'):
    """A failed task in a worktree of its own, which stays; its path."""
    assert drover.run('run', '--worktree', '--name', name, '--', 'sh', '-c', script + '; exit 4').returncode == 4
    return drover.task(name)['worktree']


def listed(drover, *options, **more):
    return drover.json('worktree', 'ls', *options, **more)['worktrees']


def admins(repository):
    folder = os.path.join(repository, '.git', 'worktrees')
    return sorted(os.listdir(folder)) if os.path.isdir(folder) else []


def wait_empty_trash(repository):
    folder = os.path.join(repository, '.parallel-worktrees', '.trash')
    harness.wait_until(lambda: not os.path.isdir(folder) or os.listdir(folder) == [], 20, 'the trash is empty')


PRECIOUS = ('export GIT_AUTHOR_NAME=x GIT_AUTHOR_EMAIL=x@y GIT_COMMITTER_NAME=x GIT_COMMITTER_EMAIL=x@y; '
            'git checkout -q --detach; echo S2 > README; git commit -qam precious; s=$(git rev-parse HEAD); '
            'git checkout -q -; echo T > README; git commit -qam t; ')


def dangling(repository):
    return git('fsck', '--no-reflogs', '--no-progress', cwd=repository)


@pytest.mark.parametrize('how', ['merge', 'cherry-pick'])
@pytest.mark.parametrize('end, code', [('; true', 0), ('', 1)])
def test_a_task_that_stops_in_a_merge(drover, sound, how, end, code):
    """Its commits are nobody's but the merge's: the worktree stays, and says so."""
    done = drover.run('run', '--worktree', '--name', 'm', '--', 'sh', '-c', f'{PRECIOUS}git {how} $s{end}')
    assert done.returncode == code, done
    path = drover.task('m')['worktree']
    assert '<<<<<<<' in read(os.path.join(path, 'README'))
    assert git('show', 'parallel/m:README', cwd=sound) == 'T'
    assert how in listed(drover)[0]['problem']
    for options in ([], ['--salvage']):
        refused = drover.run('worktree', 'rm', *options, 'm')
        assert refused.returncode != 0 and f'abort the {how}' in refused.stdout + refused.stderr, refused
    git(how, '--abort', cwd=path)
    drover.good('worktree', 'rm', 'm')
    assert not os.path.exists(path) and 'dangling commit' not in dangling(sound)


def test_a_task_that_leaves_a_detached_commit(drover, sound):
    assert drover.run('run', '--worktree', '--name', 'm', '--', 'sh', '-c', PRECIOUS).returncode == 0
    assert listed(drover) == [] and 'dangling commit' not in dangling(sound)
    ref = git('for-each-ref', '--format=%(refname)', 'refs/drover/salvage', cwd=sound)
    assert git('show', f'{ref}:README', cwd=sound) == 'S2'
    assert ref in drover.task('m')['note']


# ---- ls ----

def test_ls_where_drover_never_was(drover, sound):
    assert listed(drover) == []
    assert not os.path.exists(os.path.join(sound, '.git', 'drover'))
    assert not os.path.exists(os.path.join(sound, '.parallel-worktrees'))


def test_ls_outside_a_repository(drover):
    for verb in ('ls', 'prune'):
        assert 'git init' not in drover.bad(2, 'worktree', verb, says=['no git repository', 'cd into one, or give --all'])
    assert listed(drover, '--all') == []


def test_ls_tells_what_is_in_a_failed_tasks_worktree(drover, sound):
    path = fail_task(drover, 'bad')
    write(os.path.join(path, 'README'), 'changed\n')
    write(os.path.join(path, 'new'), 'n\n')
    write(os.path.join(sound, '.git', 'info', 'exclude'), '*.o\nbuild/\n')
    write(os.path.join(path, 'x.o'), 'o\n')
    os.mkdir(os.path.join(path, 'build'))
    write(os.path.join(path, 'build', 'a'), 'a' * 100000)
    one, = listed(drover)
    assert set(one) == FIELDS
    assert {key: one[key] for key in ('id', 'task', 'attempt', 'name', 'state', 'path', 'branch', 'condition')} == {
        'id': 'bad', 'task': 1, 'attempt': 1, 'name': 'bad', 'state': 'failed', 'path': path, 'branch': 'parallel/bad',
        'condition': 'ok'}
    assert (one['changed'], one['untracked'], one['ignored']) == (1, 1, 2)
    assert (one['unmerged'], one['base_branch'], one['unpushed']) == (1, 'main', None)
    assert one['head'] == git('rev-parse', 'parallel/bad', cwd=sound) and one['base'] == git('rev-parse', 'main', cwd=sound)
    assert one['is_locked'] and one['lock_reason'] == 'drover task 1 attempt 1' and one['is_collected']
    assert one['disk_bytes'] >= 100000 and one['repository'] == sound and one['age_s'] >= 0
    shown = drover.good('worktree', 'ls')
    assert re.search(r'1 +bad +failed +1 changed 1 new \(2 ignored\) +1 ahead of main', shown), shown
    for place in (path, os.path.join(sound, 'src')):  # from wherever in it
        assert [one['path'] for one in listed(drover, cwd=place)] == [path]


def test_ls_of_a_live_task(drover, sound):
    gate = drover.gate()
    task = drover.shell(gate.wait, '--worktree', '--name', 'long')
    drover.wait_state(task, 'running')
    one, = listed(drover)
    assert (one['state'], one['is_collected'], one['changed'], one['unmerged']) == ('running', False, 0, 0)
    drover.bad(1, 'worktree', 'rm', task, says=['task 1 is running', 'stays'])
    assert 'task 1 is running' in drover.good('worktree', 'prune')
    assert os.path.isdir(one['path'])
    gate.open()
    drover.wait_state(task, 'succeeded')
    assert listed(drover) == []


def test_worktrees_of_the_user_are_never_ours(drover, sound):
    root = os.path.join(sound, '.parallel-worktrees')
    ours = fail_task(drover, 'bad')
    git('worktree', 'add', '-q', '-b', 'mine', os.path.join(root, 'mine'), cwd=sound)
    git('worktree', 'add', '-q', '-b', 'locked', '--lock', '--reason', 'drover', os.path.join(root, 'locked'), cwd=sound)
    git('worktree', 'add', '-q', '-b', 'side', os.path.join(drover.folder, 'side'), cwd=sound)
    write(os.path.join(root, 'a-file'), 'x\n')
    assert [one['path'] for one in listed(drover)] == [ours]
    for name in ('mine', 'locked', 'a-file'):
        drover.bad(1, 'worktree', 'rm', name, says='there is no worktree')
        drover.bad(1, 'worktree', 'rm', os.path.join(root, name), says='there is no worktree')
    drover.good('worktree', 'prune')
    assert sorted(os.listdir(root)) == ['.gitignore', '.trash', 'a-file', 'locked', 'mine']
    assert sorted(admins(sound)) == ['locked', 'mine', 'side']
    for name in ('mine', 'locked', 'side'):
        git('worktree', 'remove', '-f', '-f', name, cwd=sound)


def test_a_users_worktree_in_the_place_of_ours(drover, sound):
    """Ours was taken away by hand and the name used again: what stands there is not ours."""
    path = fail_task(drover, 'bad')
    git('worktree', 'remove', '-f', '-f', path, cwd=sound)
    git('worktree', 'add', '-q', '-b', 'mine', path, cwd=sound)
    assert [one['condition'] for one in listed(drover)] == ['replaced']
    assert 'something else' in drover.good('worktree', 'prune') and os.path.isfile(os.path.join(path, 'README'))
    git('worktree', 'remove', path, cwd=sound)
    assert 'had vanished' in drover.good('worktree', 'prune') and listed(drover) == []


def test_a_worktree_that_the_user_took_over(drover, sound):
    """Unlocked, and switched to a branch of the user's: it has not vanished, and is not forgotten."""
    path = fail_task(drover, 'bad')
    git('worktree', 'unlock', path, cwd=sound)
    git('switch', '-q', '-c', 'mine', cwd=path)
    drover.bad(1, 'worktree', 'rm', 'bad', says='something else')
    assert [(one['path'], one['condition']) for one in listed(drover)] == [(path, 'replaced')]
    git('switch', '-q', 'parallel/bad', cwd=path)
    drover.good('worktree', 'rm', 'bad')
    assert not os.path.exists(path) and listed(drover) == []


def test_ls_all_and_paging(drover, sound):
    other = os.path.join(drover.folder, 'other')
    harness.make_repository(other)
    write(os.path.join(drover.folder, 'b.yaml'), '''
defaults: {worktree: checkout}
tasks:
''' + ''.join(f'  - {{name: t{number}, run: "exit 1"}}\n' for number in range(21)))
    drover.run('run', '-f', os.path.join(drover.folder, 'b.yaml'))
    assert drover.run('run', '--worktree', '--name', 'elsewhere', '--', 'false', cwd=other).returncode == 1
    assert [one['task'] for one in listed(drover)] == list(range(1, 22))
    everywhere = listed(drover, '--all', cwd='/')
    assert sorted(one['task'] for one in everywhere) == list(range(1, 23))
    done = drover.json('worktree', 'prune', '--all', cwd='/')
    assert [one['outcome'] for one in done['results']] == ['removed'] * 22 and done['problems'] == []
    assert listed(drover, '--all') == []


# ---- rm ----

def test_rm_says_what_it_proved(drover, sound):
    path = fail_task(drover, 'fix', 'for n in 1 2 3; do git -c user.name=A -c user.email=a@example.org commit '
                                    '-q --allow-empty -m $n; done')
    assert drover.good('worktree', 'rm', 'fix', '-n').strip() == \
        'worktree fix of task 1 would be removed: clean; its commits are on parallel/fix (3 ahead of main)'
    assert os.path.isdir(path) and drover.task('fix')['worktree'] == path
    assert drover.good('worktree', 'rm', 'fix').strip() == \
        'worktree fix of task 1 removed: clean; its commits are on parallel/fix (3 ahead of main)'
    assert not os.path.exists(path) and admins(sound) == [] and drover.task('fix')['worktree'] is None
    assert git('rev-list', '--count', 'main..parallel/fix', cwd=sound) == '3'
    wait_empty_trash(sound)
    drover.bad(1, 'worktree', 'rm', 'fix', says='there is no worktree')


@pytest.mark.parametrize('word', ['1', '#1', 'bad', 'path', 'dot'])
def test_rm_by_id_name_and_path(drover, sound, word):
    path = fail_task(drover, 'bad')
    if word == 'dot':
        done = drover.good('worktree', 'rm', '.', cwd=path)  # nobody but the command itself stands there
    elif word == 'path':
        done = drover.good('worktree', 'rm', '../.parallel-worktrees/bad/', cwd=os.path.join(sound, 'src'))
    else:
        done = drover.good('worktree', 'rm', word, cwd=sound if word == 'bad' else '/')
    assert 'worktree bad of task 1 removed: clean' in done and not os.path.exists(path)


def test_rm_refuses_what_is_dirty_and_salvages_it(drover, sound):
    path = fail_task(drover, 'bad')
    write(os.path.join(path, 'README'), 'edited\n')
    write(os.path.join(path, 'staged'), 's\n')
    git('add', 'staged', cwd=path)
    write(os.path.join(path, 'new'), 'n\n')
    said = drover.bad(1, 'worktree', 'rm', 'bad', says=['worktree bad of task 1 stays: 2 changed and 1 untracked files',
                                                         '--salvage'])
    assert len(said.splitlines()) == 2 and git('status', '--porcelain', cwd=path) == ' M README\nA  staged\n?? new'
    assert '3 files' not in said
    done = drover.json('worktree', 'rm', '--salvage', 'bad')['results'][0]
    assert (done['outcome'], done['salvage']) == ('removed', 'refs/drover/salvage/1')
    assert (done['changed'], done['untracked']) == (2, 1)
    assert git('diff', '--name-status', 'parallel/bad', done['salvage'], cwd=sound) == 'M\tREADME\nA\tnew\nA\tstaged'
    assert drover.task('bad')['salvage'] == done['salvage'] and not os.path.exists(path)


def test_rm_and_ignored_files(drover, sound):
    path = fail_task(drover, 'bad')
    write(os.path.join(sound, '.git', 'info', 'exclude'), 'secret*\n')
    for number in range(5):
        write(os.path.join(path, f'secret{number}'), 's\n')
    drover.bad(1, 'worktree', 'rm', 'bad', '--salvage', says=['5 ignored', 'secret0, secret1, secret2, …', '--drop-ignored'])
    assert '5 ignored' in drover.good('worktree', 'prune') and os.path.isdir(path)
    assert 'ignored files go with it (secret0' in drover.good('worktree', 'rm', 'bad', '--drop-ignored')
    assert not os.path.exists(path)


def test_rm_of_several_tells_all_it_cannot(drover, sound):
    paths = [fail_task(drover, name) for name in ('a', 'b', 'c')]
    write(os.path.join(paths[1], 'new'), 'n\n')
    done = drover.run('worktree', 'rm', 'a', 'b', 'c', 'd')
    assert done.returncode == 1
    assert done.stdout.count(' removed: ') == 2 and 'worktree b of task 2 stays: 1 untracked file' in done.stderr
    assert "there is no worktree 'd'" in done.stderr
    assert [os.path.exists(path) for path in paths] == [False, True, False]


def test_rm_while_somebody_works_in_it(drover, sound):
    path = fail_task(drover, 'bad', 'mkdir sub; touch sub/x')
    with subprocess.Popen(['cat'], cwd=os.path.join(path, 'sub'), stdin=subprocess.PIPE) as process:
        drover.bad(1, 'worktree', 'rm', 'bad', says=f'process {process.pid} (cat) works in it')
        process.stdin.close()
    drover.good('worktree', 'rm', 'bad')


def test_commits_on_no_branch(drover, sound):
    path = fail_task(drover, 'bad')
    git('checkout', '-q', '--detach', cwd=path)
    git('commit', '-q', '--allow-empty', '-m', 'lost', cwd=path)
    lost = git('rev-parse', 'HEAD', cwd=path)
    drover.bad(1, 'worktree', 'rm', 'bad', says=[lost[:12], 'on no branch'])
    drover.good('worktree', 'rm', 'bad', '--salvage')
    assert git('rev-parse', 'refs/drover/salvage/1', cwd=sound) == lost


def test_delete_branch_only_when_merged(drover, repository):
    fail_task(drover, 'bad')
    drover.bad(1, 'worktree', 'rm', 'bad', '--delete-branch',
               says='branch parallel/bad is 1 ahead of main, and nowhere else')
    git('merge', '-q', '--ff-only', 'parallel/bad', cwd=repository)
    assert 'branch parallel/bad goes too: all of it is in main' in drover.good('worktree', 'rm', 'bad', '--delete-branch')
    assert git('for-each-ref', 'refs/heads/parallel', cwd=repository) == ''
    fail_task(drover, 'empty', 'true')
    drover.good('worktree', 'rm', 'empty', '--delete-branch')
    assert git('for-each-ref', 'refs/heads/parallel', cwd=repository) == ''


def test_delete_branch_that_is_checked_out_elsewhere(drover, sound):
    path = fail_task(drover, 'bad', 'true')
    git('checkout', '-q', '--detach', cwd=path)
    git('worktree', 'add', '-q', os.path.join(drover.folder, 'side'), 'parallel/bad', cwd=sound)
    drover.bad(1, 'worktree', 'rm', 'bad', '--delete-branch', says='checked out in')
    drover.good('worktree', 'rm', 'bad')


def test_a_worktree_that_the_user_locked(drover, sound):
    path = fail_task(drover, 'bad')
    git('worktree', 'unlock', path, cwd=sound)
    assert listed(drover)[0]['is_locked'] is False
    git('worktree', 'lock', '--reason', 'mine for now', path, cwd=sound)
    drover.bad(1, 'worktree', 'rm', 'bad', says=["locked by hand: 'mine for now'", 'git worktree unlock'])
    git('worktree', 'unlock', path, cwd=sound)
    drover.good('worktree', 'rm', 'bad')


def test_the_worktrees_of_both_attempts_are_known(drover, sound):
    """A retry gets a worktree of its own; the failed one's is not forgotten over it."""
    first = fail_task(drover, 'bad')
    drover.good('retry', 'bad')
    harness.wait_until(lambda: drover.task('bad')['attempt'] == 2 and drover.state_of('bad') == 'failed', 30)
    assert [(one['attempt'], one['path'] == first) for one in listed(drover)] == [(1, True), (2, False)]
    drover.good('worktree', 'rm', first)
    assert [one['attempt'] for one in listed(drover)] == [2]
    assert drover.task('bad')['worktree'] == listed(drover)[0]['path']
    assert drover.good('worktree', 'rm', 'bad').count(' removed: ') == 1
    assert listed(drover) == [] and admins(sound) == []


def test_a_task_that_is_to_run_again_keeps_its_worktree(drover, sound):
    gate = drover.gate()
    write(os.path.join(drover.folder, 'b.yaml'), f'''
tasks:
  - {{name: bad, run: "exit 1", worktree: checkout}}
  - {{name: long, run: "{gate.wait}", afterAny: [bad]}}
''')
    drover.add('-j', '1', '-f', os.path.join(drover.folder, 'b.yaml'))
    drover.wait_state('long', 'running')
    path = drover.task('bad')['worktree']
    drover.good('retry', 'bad')
    assert drover.state_of('bad') == 'queued'
    drover.bad(1, 'worktree', 'rm', 'bad', path, says='task 1 is queued')
    assert 'task 1 is queued' in drover.good('worktree', 'prune') and os.path.isdir(path)
    gate.open()
    drover.wait_final('bad')


# ---- prune ----

def test_prune_removes_what_is_finished_and_explains_the_rest(drover, sound):
    paths = {name: fail_task(drover, name) for name in ('clean', 'dirty', 'gone', 'busy')}
    write(os.path.join(paths['dirty'], 'new'), 'n\n')
    subprocess.run(['rm', '-rf', paths['gone']], check=True)
    with subprocess.Popen(['cat'], cwd=paths['busy'], stdin=subprocess.PIPE) as process:
        dry = drover.good('worktree', 'prune', '--dry-run')
        assert dry.count(' would be removed: ') == 2 and dry.count(' stays: ') == 2 and len(listed(drover)) == 4
        done = drover.json('worktree', 'prune')['results']
        process.stdin.close()
    assert {one['name']: (one['outcome'], one['reason']) for one in done} == {
        'clean': ('removed', None), 'dirty': ('kept', 'dirty'), 'gone': ('removed', None), 'busy': ('kept', 'in-use')}
    assert sorted(admins(sound)) == ['busy', 'dirty']
    assert len(git('for-each-ref', 'refs/heads/parallel', cwd=sound).splitlines()) == 4
    assert drover.json('worktree', 'prune')['results'][0]['outcome'] == 'kept'


def put_before_helper(drover, verb, script):
    """From now on the shell runs `script` for this verb of drover-worktree, which is $helper there."""
    programs = os.path.join(drover.folder, 'programs')
    os.mkdir(programs)
    for name in os.listdir(drover.programs):
        if name != 'drover-worktree':
            os.symlink(os.path.join(drover.programs, name), os.path.join(programs, name))
    real = os.path.join(drover.programs, 'drover-worktree')
    write(os.path.join(programs, 'drover-worktree'),
          f'#!/bin/sh\nhelper="{real}"\n[ "$1" = {verb} ] || exec "$helper" "$@"\n{script}\n', 0o755)
    drover.environment['DROVER_LIBEXEC_DIR'] = programs


def test_retried_while_its_old_worktree_is_removed(drover, sound):
    """The next attempt has the same path by the time the removal is told: it is not the one that was removed."""
    told, running = drover.gate('told'), drover.gate('run')
    again, answer = os.path.join(drover.folder, 'again'), os.path.join(drover.folder, 'answer')
    put_before_helper(drover, 'remove', f'"$helper" "$@" > "{answer}"; {told.wait}; exec cat "{answer}"')
    path = fail_task(drover, 'bad', f'[ ! -e "{again}" ] || {{ {running.wait}; echo work > made; exit 0; }}')
    write(again, '')
    client = drover.popen('worktree', 'prune')
    harness.wait_until(lambda: not os.path.exists(path), 20, 'it was removed')
    drover.good('retry', 'bad')
    drover.wait_state('bad', 'running')
    assert drover.task('bad')['worktree'] == path and client.poll() is None
    told.open()
    assert b' removed: ' in client.communicate(timeout=20)[0]
    assert drover.task('bad')['worktree'] == path
    running.open()
    task = drover.wait_final('bad')
    assert (task['state'], task['attempt']) == ('succeeded', 2), task['cause']
    assert git('show', f'{task["branch"]}:made', cwd=sound) == 'work' and not os.path.exists(os.path.join(sound, 'made'))


def test_a_task_without_its_worktree_runs_nowhere(drover, sound):
    put_before_helper(drover, 'prepare', """"$helper" "$@" | sed 's/"path"/"lost"/'""")
    task = drover.wait_final(drover.shell('echo work > made', '--worktree', '--name', 'bad'))
    assert task['state'] == 'failed' and 'has no worktree' in task['cause'], task['cause']
    assert not os.path.exists(os.path.join(sound, 'made'))


def test_prune_empties_the_trash(drover, sound):
    """What a deletion that was killed left, of files and of git's directories, goes with the next prune."""
    fail_task(drover, 'bad')
    trash = ('.parallel-worktrees/.trash', '.git/drover/trash')
    left = [os.path.join(sound, folder, 'left') for folder in trash]
    for folder in left:
        os.makedirs(os.path.join(folder, 'in'))
        write(os.path.join(folder, 'in', 'x'), 'x\n')
        os.chmod(os.path.join(folder, 'in'), 0o555)
    drover.good('worktree', 'prune', '--dry-run')
    assert all(os.path.exists(folder) for folder in left) and len(listed(drover)) == 1
    drover.good('worktree', 'prune')
    harness.wait_until(lambda: not any(os.path.exists(folder) for folder in left), 20, 'the trash is empty')


def test_prune_keeps_what_another_daemon_made(make_drover, drover, sound):
    path = fail_task(drover, 'bad')
    other = make_drover()
    one, = listed(other, cwd=sound)
    assert (one['state'], one['task'], one['path']) == (None, 1, path)
    assert 'another state directory' in other.good('worktree', 'prune', cwd=sound) and os.path.isdir(path)
    other.bad(1, 'worktree', 'rm', '1', '-n', '--salvage', '--delete-branch', says='ahead of main', cwd=sound)
    assert 'removed: clean' in other.good('worktree', 'rm', 'bad', cwd=sound)
    assert listed(drover) == [] and not os.path.exists(path)


def test_a_live_task_of_another_daemon(make_drover, drover, sound):
    gate = drover.gate()
    task = drover.shell(gate.wait, '--worktree', '--name', 'long')
    drover.wait_state(task, 'running')
    other = make_drover()
    other.bad(1, 'worktree', 'rm', 'long', says=['another daemon may still run it', '--abandoned'], cwd=sound)
    # Even by a user's false word: what works there is seen.
    other.bad(1, 'worktree', 'rm', 'long', '--abandoned', says='works in it', cwd=sound)
    gate.open()
    drover.wait_state(task, 'succeeded')


def test_what_a_forgotten_task_leaves(drover, sound):
    path = fail_task(drover, 'bad')
    said = drover.good('clean', '--all')
    assert 'forgot 1 task\n1 worktree stays' in said and path in said and 'drover worktree' in said
    one, = listed(drover)
    assert (one['state'], one['name'], one['path'], one['is_collected']) == (None, None, path, True)
    assert 'removed: clean; its commits are on parallel/bad' in drover.good('worktree', 'prune')
    assert listed(drover) == []


def test_clean_json_names_the_worktrees(drover, sound):
    path = fail_task(drover, 'bad')
    assert drover.json('clean', 'bad')['worktrees'] == [path]


def test_a_damaged_worktree_is_left_alone(drover, sound):
    path = fail_task(drover, 'bad')
    os.unlink(os.path.join(path, '.git'))
    assert listed(drover)[0]['condition'] == 'replaced'
    drover.bad(1, 'worktree', 'rm', 'bad', '--salvage', '--drop-ignored', says='something else')
    assert read(os.path.join(path, 'half')) == 'half\n'
    os.rename(path, os.path.join(drover.folder, 'kept'))
    assert listed(drover)[0]['condition'] == 'missing'
    drover.good('worktree', 'prune')
    assert listed(drover) == [] and admins(sound) == []


# ---- the daemon ----

def test_the_daemon_answers_meanwhile_and_may_die(drover, sound):
    """A salvage of many files goes on without the daemon, and status is not held up by it."""
    path = fail_task(drover, 'bad')
    for number in range(800):
        write(os.path.join(path, f'f{number}'), f'{number}\n')
    client = drover.popen('worktree', 'rm', 'bad', '--salvage')
    harness.wait_until(lambda: drover.count_running('drover-worktree') > 0 or client.poll() is not None, 20)
    drover.good('status')
    drover.kill_daemon(signal.SIGKILL)
    client.communicate(timeout=30)
    harness.wait_until(lambda: drover.count_running('drover-worktree') == 0, 30, 'the helper has ended')
    drover.wait_daemon()
    if os.path.exists(path):
        drover.good('worktree', 'rm', 'bad', '--salvage')
    assert git('show', 'refs/drover/salvage/1:f799', cwd=sound) == '799'
    assert drover.json('worktree', 'prune')['problems'] == [] and listed(drover) == [] and admins(sound) == []


def test_many_calls_at_once(drover, sound):
    fail_task(drover, 'bad')
    clients = [drover.popen('worktree', 'ls', '--json') for _ in range(12)]
    for client in clients:
        out, err = client.communicate(timeout=50)
        assert client.returncode == 0 and len(json.loads(out)['worktrees']) == 1, err


def test_usage(drover, repository):
    drover.bad(2, 'worktree', 'rm', says='name worktrees')
    drover.bad(2, 'worktree', 'ls', 'x', says='unexpected')
    drover.bad(2, 'worktree', 'prune', 'x', says='drover worktree rm')
    for verb in ('ls', 'rm', 'prune'):
        assert '--json' in drover.good('worktree', verb, '--help')
    drover.start()
    raw = drover.connect()
    for method, params in (('worktree.list', {}), ('worktree.list', {'cwd': 'relative'}),
                           ('worktree.list', {'cwd': '/', 'is_all': True}), ('worktree.remove', {'worktrees': []}),
                           ('worktree.prune', {})):
        assert raw.ask(method, params)['error']['data']['name'] == 'invalid-params'
    raw.close()
