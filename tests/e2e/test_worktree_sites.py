"""drover-worktree list and remove by themselves: what is proved, what stays, and what kill -9 leaves. FAULTS 44, 47, 50, 51.

What `drover worktree` makes of the answers is in test_worktree_command.py.
"""
import concurrent.futures
import glob
import json
import os
import re
import shutil
import signal
import subprocess

import pytest

import harness
from harness import git, read, write
from repositories import Repository, arm, commit_in, find_helper

STRACE = shutil.which('strace')
NOBODY = 65534
needs_strace = pytest.mark.skipif(not STRACE, reason='strace is not installed: kill -9 at each call is not tested')
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason='needs root to mount, and to become another user')
NO_LEAK_CHECK = {'ASAN_OPTIONS': 'detect_leaks=0'}  # it cannot be done under strace


@pytest.fixture
def folder(tmp_path):
    return str(tmp_path)


@pytest.fixture
def repository(folder):
    made = Repository(folder)
    before = made.fingerprint()
    yield made
    assert made.fingerprint() == before
    made.assert_sound()


def fail(repository, task, name=None, **more):
    """A worktree that stays after its failed task, with one commit; what prepare said."""
    made = repository.prepare(task, name=name, **more)
    write(os.path.join(made['path'], 'half'), 'half\n')
    repository.collect(task, made, has_succeeded=False, **more)
    return made


def listed(repository, **more):
    answer = repository.good('list', {'common_dir': repository.common, 'top': repository.path, **more})
    return answer['worktrees']


def target(made, task=1, **more):
    return {'task': task, 'attempt': 1, 'directory': os.path.basename(made['path']),
            'top': os.path.dirname(os.path.dirname(made['path'])), **more}


def removal(repository, *targets, **more):
    return {'common_dir': repository.common, 'top': repository.path, 'targets': list(targets), **more}


def remove(repository, made, task=1, env=None, before=(), **more):
    """The one result of removing one worktree."""
    request = removal(repository, target(made, task), **more)
    return repository.good('remove', request, env=env, before=before)['results'][0]


def kept(repository, made, reason, says='', **more):
    done = remove(repository, made, **more)
    assert (done['outcome'], done['reason']) == ('kept', reason), done
    assert says in done['text'], done
    assert os.path.isdir(made['path'])
    return done


# ---- list ----

def test_list_makes_nothing(repository):
    answer = repository.good('list', {'directory': os.path.join(repository.path, 'src')})
    assert answer == {'common_dir': repository.common, 'top': repository.path, 'worktrees': [], 'cursor': None, 'trash': 0}
    assert repository.good('remove', removal(repository)) == {'results': []}
    assert not os.path.exists(os.path.join(repository.common, 'drover'))
    assert not os.path.exists(os.path.join(repository.path, '.parallel-worktrees'))


def test_list_in_pages(repository):
    for task in (10, 9, 11):
        repository.prepare(task)
    seen, cursor = [], None
    while True:
        request = {'common_dir': repository.common, 'top': repository.path, 'limit': 1, 'after': cursor}
        answer = repository.good('list', request)
        seen += [one['task'] for one in answer['worktrees']]
        cursor = answer['cursor']
        if cursor is None:
            break
    assert seen == [9, 10, 11]


def test_a_worktree_whose_record_is_lost(repository):
    made = repository.prepare(3, name='fix')
    for path in glob.glob(os.path.join(repository.common, 'drover', 'worktrees', '*')):
        os.unlink(path)
    one, = listed(repository, has_facts=True)
    assert (one['task'], one['attempt'], one['branch'], one['changed']) == (3, 1, 'parallel/fix', 0)
    assert not one['has_record']
    kept(repository, made, 'uncollected', task=3)
    assert remove(repository, made, 3, is_abandoned=True)['outcome'] == 'removed'
    assert listed(repository) == [] and repository.admins() == []


def test_damaged_records_do_not_stop_the_listing(repository):
    fail(repository, 1)
    fail(repository, 2)
    record = os.path.join(repository.common, 'drover', 'worktrees', '1.json')
    write(record, '{"verb": "keep", "task": 1}')
    assert [(one['task'], one['has_record']) for one in listed(repository)] == [(1, False), (2, True)]
    os.unlink(record + '.corrupt')


def test_links_in_place_of_drovers_directories(repository):
    outside = os.path.join(repository.folder, 'outside')
    os.makedirs(os.path.join(outside, 'worktrees'))
    os.symlink(outside, os.path.join(repository.common, 'drover'))
    repository.bad('list', {'common_dir': repository.common, 'top': repository.path}, 'unsafe-directory')
    repository.bad('remove', removal(repository), 'unsafe-directory')
    os.unlink(os.path.join(repository.common, 'drover'))


def test_worktrees_of_a_bare_repository_have_several_roots(folder):
    source = Repository(folder, name='source')
    repository = Repository.__new__(Repository)
    repository.__dict__.update(source.__dict__)
    repository.common = os.path.join(folder, 'bare.git')
    git('clone', '-q', '--bare', source.path, repository.common, cwd=folder)
    tops = [os.path.join(folder, name) for name in ('one', 'two')]
    made = []
    for number, top in enumerate(tops, 1):
        git('worktree', 'add', '-q', '-b', os.path.basename(top), top, cwd=repository.common)
        repository.path = top
        made.append(fail(repository, number))
    for repository.path in tops:
        assert [one['path'] for one in listed(repository)] == [one['path'] for one in made]
        assert [one['condition'] for one in listed(repository)] == ['ok', 'ok']
    # Asked from the other one's top, the files go all the same.
    assert remove(repository, made[0], 1)['outcome'] == 'removed'
    assert [one['task'] for one in listed(repository)] == [2] and not os.path.exists(made[0]['path'])
    assert os.listdir(os.path.join(tops[0], '.parallel-worktrees', '.trash')) == []


# ---- what keeps a worktree ----

def test_nothing_of_the_repositorys_is_run(folder):
    repository = Repository(folder)
    trap = os.path.join(folder, 'trapped')
    made = fail(repository, 1)
    arm(repository, trap)
    write(os.path.join(made['path'], '.gitattributes'), '* filter=evil diff=evil\n')
    write(os.path.join(made['path'], 'x.two'), 'x\n')
    assert listed(repository, has_facts=True)[0]['untracked'] == 2
    # What a filter would have to change on its way into a commit cannot be kept without running it.
    kept(repository, made, 'obstacle', "has the filter 'evil'", salvages=True)
    os.unlink(os.path.join(repository.common, 'info', 'attributes'))
    os.unlink(os.path.join(made['path'], '.gitattributes'))
    kept(repository, made, 'dirty')
    assert remove(repository, made, salvages=True)['outcome'] == 'removed'
    assert not os.path.exists(trap), read(trap)
    assert repository.git('show', 'refs/drover/salvage/1:x.two') == 'x'


def test_what_no_commit_can_hold(repository):
    made = fail(repository, 1)
    inner = harness.make_repository(os.path.join(made['path'], 'inner'))
    done = kept(repository, made, 'obstacle', "'inner' in it is a repository of its own", salvages=True, drops_ignored=True)
    assert done['hint']
    shutil.rmtree(inner)
    git('update-index', '--assume-unchanged', 'README', cwd=made['path'])
    write(os.path.join(made['path'], 'README'), 'hidden\n')
    kept(repository, made, 'obstacle', 'assume-unchanged', salvages=True)
    git('update-index', '--no-assume-unchanged', 'README', cwd=made['path'])
    git('checkout', '-q', 'README', cwd=made['path'])
    os.mkdir(os.path.join(repository.common, 'worktrees', '1', 'rebase-merge'))
    kept(repository, made, 'obstacle', 'rebase', salvages=True)
    write(os.path.join(made['path'], 'README'), 'changed\n')
    done = kept(repository, made, 'obstacle', 'not committed')
    assert '--salvage' not in done['hint'] and f"abort the rebase, in '{made['path']}'" in done['hint']
    git('checkout', '-q', 'README', cwd=made['path'])
    os.rmdir(os.path.join(repository.common, 'worktrees', '1', 'rebase-merge'))
    assert remove(repository, made)['outcome'] == 'removed'


@pytest.mark.parametrize('how', ['merge', 'cherry-pick', 'revert'])
def test_an_unfinished_merge_stays(repository, how):
    made = fail(repository, 1)
    commit_in(made['path'], 'half', 'ours\n')
    write(os.path.join(repository.common, 'worktrees', '1', how.upper().replace('-', '_') + '_HEAD'), repository.base + '\n')
    assert how in listed(repository, has_facts=True)[0]['problem']
    assert f'abort the {how}' in kept(repository, made, 'obstacle', how, salvages=True)['hint']


def test_commits_that_only_the_log_of_its_head_has(repository):
    made = fail(repository, 1)
    git('checkout', '-q', '--detach', cwd=made['path'])
    precious = commit_in(made['path'], 'half', 'precious\n')
    git('checkout', '-q', made['branch'], cwd=made['path'])
    done = remove(repository, made)
    assert done['outcome'] == 'removed' and done['salvage'] == f'refs/drover/salvage/1-{precious[:12]}'
    assert done['salvage'] in done['text']
    assert repository.git('rev-parse', done['salvage']) == precious


def test_files_hidden_by_an_ignore_file(repository):
    """A task can write its own ignore file: then all of it is ignored, and not one file goes unseen."""
    made = fail(repository, 1)
    write(os.path.join(repository.common, 'info', 'exclude'), '*\n')
    write(os.path.join(made['path'], 'work'), 'w\n')
    kept(repository, made, 'ignored', 'work', salvages=True)
    os.unlink(os.path.join(made['path'], 'work'))
    assert remove(repository, made)['outcome'] == 'removed'


def test_a_branch_that_is_gone(repository):
    """Its HEAD names nothing: the files are compared with the base, and saved on top of that."""
    made = fail(repository, 1)
    repository.git('update-ref', '-d', 'refs/heads/parallel/1')
    done = kept(repository, made, 'dirty')
    assert done['changed'] == 1
    assert remove(repository, made, salvages=True)['salvage'] == 'refs/drover/salvage/1'
    assert repository.git('show', 'refs/drover/salvage/1:half') == 'half'


@pytest.mark.parametrize('how', ['replace', 'graft'])
def test_an_invented_history_proves_nothing(repository, how):
    """A task can make it look as if main had all of its branch."""
    made = fail(repository, 1)
    if how == 'replace':
        repository.git('replace', '--graft', 'main', 'parallel/1')
    else:
        tip = repository.git('rev-parse', 'parallel/1')
        write(os.path.join(repository.common, 'info', 'grafts'), f'{repository.base} {tip}\n{tip}\n')
    kept(repository, made, 'branch', 'nowhere else', drops_branch=True)
    if how == 'replace':
        repository.git('replace', '-d', 'main')
    else:
        os.unlink(os.path.join(repository.common, 'info', 'grafts'))
    assert remove(repository, made)['outcome'] == 'removed'


def test_a_salvage_ref_is_never_replaced(repository):
    made = fail(repository, 1)
    repository.git('update-ref', 'refs/drover/salvage/1', repository.base)
    write(os.path.join(made['path'], 'new'), 'n\n')
    done = remove(repository, made, salvages=True)
    assert re.fullmatch('refs/drover/salvage/1-[0-9a-f]{12}', done['salvage']) and done['salvage'] in done['text']
    assert repository.git('rev-parse', 'refs/drover/salvage/1') == repository.base
    assert repository.git('show', done['salvage'] + ':new') == 'n'


def test_staged_files_of_a_vanished_worktree(repository):
    """What was added to the index and is nowhere else now can still be kept."""
    made = fail(repository, 1)
    write(os.path.join(made['path'], 'staged'), 's\n')
    git('add', 'staged', cwd=made['path'])
    shutil.rmtree(made['path'])
    done = remove(repository, made)
    assert (done['outcome'], done['reason']) == ('kept', 'dirty') and repository.admins() == ['1']
    assert remove(repository, made, salvages=True)['outcome'] == 'removed'
    assert repository.git('show', 'refs/drover/salvage/1:staged') == 's' and repository.admins() == []


@pytest.mark.parametrize('name', ['index', 'HEAD'])
def test_links_among_gits_files_are_not_used(repository, name):
    made = fail(repository, 1)
    file = os.path.join(repository.common, 'worktrees', '1', name)
    os.rename(file, os.path.join(repository.folder, name))
    os.symlink(os.path.join(repository.folder, name), file)
    assert 'symbolic link' in listed(repository, has_facts=True)[0]['problem']
    kept(repository, made, 'error', 'symbolic link', salvages=True)
    os.unlink(file)
    os.rename(os.path.join(repository.folder, name), file)
    assert remove(repository, made)['outcome'] == 'removed'


def test_links_in_the_tree_are_not_followed(repository):
    made = fail(repository, 1)
    outside = os.path.join(repository.folder, 'outside')
    os.mkdir(outside)
    write(os.path.join(outside, 'precious'), 'p\n')
    for name in ('link', 'half', os.path.join('src', 'up')):
        path = os.path.join(made['path'], name)
        if os.path.exists(path):
            os.unlink(path)
        os.symlink(outside, path)
    assert remove(repository, made, salvages=True)['outcome'] == 'removed'
    assert read(os.path.join(outside, 'precious')) == 'p\n' and os.listdir(outside) == ['precious']


@needs_root
@pytest.mark.skipif(not harness.can_mount(), reason='cannot mount here: mounts in a worktree are not tested')
@pytest.mark.parametrize('where', ['', '/src'])
def test_a_mount_in_it(repository, where):
    made = fail(repository, 1)
    outside = os.path.join(repository.folder, 'outside')
    os.mkdir(outside)
    write(os.path.join(outside, 'precious'), 'p\n')
    script = f'mount --bind "{outside}" "{made["path"]}{where}" && exec "$@"'
    before = ['unshare', '-m', '--propagation', 'private', 'sh', '-c', script, 'sh']
    if where:
        kept(repository, made, 'mounted', made['path'] + where, before=before, salvages=True, drops_ignored=True)
    else:
        kept(repository, made, 'replaced', before=before, salvages=True, drops_ignored=True)
    assert os.listdir(outside) == ['precious']


AS_NOBODY = ['setpriv', '--reuid', str(NOBODY), '--regid', str(NOBODY), '--clear-groups']


def give_to_nobody(path):
    for place, _, names in os.walk(path):
        for one in [place, *(os.path.join(place, name) for name in names)]:
            os.chown(one, NOBODY, NOBODY, follow_symlinks=False)


@pytest.fixture
def of_nobody(folder):
    """A repository of an ordinary user's, whom rights bind."""
    place = folder
    while os.stat(place).st_uid == os.geteuid() and place != os.path.dirname(place) and not os.stat(place).st_mode & 0o001:
        os.chmod(place, os.stat(place).st_mode | 0o711)
        place = os.path.dirname(place)
    made = Repository(folder)
    give_to_nobody(folder)
    return made


@needs_root
def test_directories_without_rights(of_nobody):
    """Read-only directories go; one that cannot be looked into keeps the worktree, as nobody knows what is in it."""
    repository = of_nobody
    made = repository.good('prepare', repository.request(1), before=AS_NOBODY)
    deep = os.path.join(made['path'], 'src', 'deep')
    os.makedirs(deep)
    write(os.path.join(deep, 'x'), 'x\n')
    give_to_nobody(deep)
    repository.good('collect', repository.collect_request(1, made, has_succeeded=False), before=AS_NOBODY)
    os.chmod(deep, 0)
    assert kept(repository, made, 'obstacle', 'cannot be read', before=AS_NOBODY, salvages=True)['hint']
    for place in (deep, os.path.join(made['path'], 'src'), made['path']):
        os.chmod(place, 0o555)
    assert remove(repository, made, before=AS_NOBODY)['outcome'] == 'removed'
    assert repository.worktrees() == [] and repository.residue() == []


@needs_root
def test_collecting_what_has_no_rights(of_nobody):
    """The same for a task that succeeded: git only warns of a directory that it cannot read, and counts it as empty."""
    repository = of_nobody
    for task, mode in ((1, 0), (2, 0o555)):
        made = repository.good('prepare', repository.request(task), before=AS_NOBODY)
        hidden = os.path.join(made['path'], 'hidden')
        os.mkdir(hidden)
        write(os.path.join(hidden, 'x'), 'x\n')
        give_to_nobody(hidden)
        os.chmod(hidden, mode)
        os.chmod(made['path'], 0o555)
        done = repository.good('collect', repository.collect_request(task, made), before=AS_NOBODY)
        if mode == 0:
            assert not done['is_removed'] and 'cannot be read' in done['note']
            assert read(os.path.join(hidden, 'x')) == 'x\n'
        else:
            assert done['is_removed'] and repository.git('show', 'parallel/2:hidden/x', GIT_CONFIG_COUNT='1',
                                                         GIT_CONFIG_KEY_0='safe.directory', GIT_CONFIG_VALUE_0='*') == 'x'
    assert repository.worktrees() == ['1'] and repository.residue() == []


# ---- what comes in between ----

def run_slowly(repository, made, call, **more):
    """Removes with each renameat2 taking a while: the first is the one that moves the worktree aside."""
    before = [STRACE, '-qq', '-o', '/dev/null', '-e', 'trace=renameat2', '-e', f'inject=renameat2:{call}=1500000:when=1']
    return remove(repository, made, before=before, env=NO_LEAK_CHECK, **more)


def find_aside(repository):
    return glob.glob(os.path.join(repository.path, '.parallel-worktrees', '.removing-*'))


@needs_strace
@pytest.mark.parametrize('salvages', [False, True])
def test_what_is_written_between_proof_and_removal_is_not_lost(repository, salvages):
    made = fail(repository, 1)
    if salvages:
        write(os.path.join(made['path'], 'new'), 'n\n')
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        done = pool.submit(run_slowly, repository, made, 'delay_exit', salvages=salvages)
        aside, = harness.wait_until(lambda: find_aside(repository), 30, 'it was moved aside')
        write(os.path.join(aside, 'late'), 'l\n')
        done = done.result()
    assert (done['outcome'], done['reason']) == ('kept', 'in-use') and 'changed just now' in done['text']
    assert read(os.path.join(made['path'], 'late')) == 'l\n' and find_aside(repository) == []
    assert git('rev-parse', '--abbrev-ref', 'HEAD', cwd=made['path']) == 'parallel/1'
    assert remove(repository, made, salvages=True)['outcome'] == 'removed'
    assert 'late' in repository.git('log', '--all', '--name-only', '--format=')


@needs_strace
def test_a_worktree_in_use_whose_place_is_taken_is_kept_beside(repository):
    """Its user writes by absolute paths, and made the place anew when it had just been moved aside."""
    made = fail(repository, 1)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        done = pool.submit(run_slowly, repository, made, 'delay_exit')
        aside, = harness.wait_until(lambda: find_aside(repository), 30, 'it was moved aside')
        write(os.path.join(aside, 'late'), 'l\n')
        os.mkdir(made['path'])
        write(os.path.join(made['path'], 'mine'), 'm\n')
        done = done.result()
    beside = made['path'] + '-kept-1'
    assert (done['outcome'], done['reason']) == ('kept', 'in-use') and f"it is in '{beside}' now" in done['text']
    assert read(os.path.join(beside, 'late')) == 'l\n' and os.listdir(made['path']) == ['mine']
    assert find_aside(repository) == [] and git('status', '--porcelain', cwd=beside) == '?? late'


@needs_strace
def test_who_comes_between_proof_and_removal_is_seen(repository):
    made = fail(repository, 1)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        done = pool.submit(run_slowly, repository, made, 'delay_exit')
        aside, = harness.wait_until(lambda: find_aside(repository), 30, 'it was moved aside')
        with subprocess.Popen(['cat'], cwd=os.path.join(aside, 'src'), stdin=subprocess.PIPE) as process:
            done = done.result()
            process.stdin.close()
    assert (done['outcome'], done['reason']) == ('kept', 'in-use') and f'{process.pid} (cat)' in done['text']
    assert sorted(os.listdir(made['path'])) == ['.git', 'README', 'half', 'src']
    assert remove(repository, made)['outcome'] == 'removed'


@needs_strace
def test_the_answer_does_not_wait_for_the_deletion(repository):
    made = fail(repository, 1)
    command = [STRACE, '-qq', '-o', '/dev/null', '-e', 'trace=unlinkat', '-e', 'inject=unlinkat:delay_enter=100000',
               find_helper(), 'remove']
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd='/',
                          env=dict(repository.environment, **NO_LEAK_CHECK)) as process:
        process.stdin.write(json.dumps(removal(repository, target(made))).encode())
        process.stdin.close()
        assert json.loads(process.stdout.read())['results'][0]['outcome'] == 'removed'
        assert process.poll() is None and not os.path.exists(made['path'])  # it is at it
        assert process.wait(timeout=50) == 0


@pytest.mark.limit(120)
def test_removing_beside_a_foreign_gc_and_prune(repository):
    script = 'while :; do git worktree prune --expire=now; git gc -q --auto; git pack-refs --all; done'
    # A gc in the background would outlive its process group, and leave its lock files.
    foreign_environment = dict(repository.environment, LC_ALL='C', GIT_CONFIG_COUNT='1', GIT_CONFIG_KEY_0='gc.autoDetach',
                               GIT_CONFIG_VALUE_0='false')
    made = [fail(repository, task) for task in range(1, 13)]
    for one in made[::2]:
        write(os.path.join(one['path'], 'new'), 'n\n')
    with subprocess.Popen(['sh', '-c', script], cwd=repository.path, start_new_session=True, stdin=subprocess.DEVNULL,
                          stderr=subprocess.DEVNULL, env=foreign_environment) as foreign:
        try:
            with concurrent.futures.ThreadPoolExecutor(3) as pool:
                done = list(pool.map(lambda pair: remove(repository, pair[1], pair[0], salvages=True), enumerate(made, 1)))
        finally:
            os.killpg(foreign.pid, signal.SIGKILL)
    assert [one['outcome'] for one in done] == ['removed'] * 12, done
    assert len(repository.branches()) == 12 and len(repository.refs('refs/drover/salvage')) == 6
    harness.wait_until(lambda: not harness.group_is_running(foreign.pid), what='the end of the foreign git')
    for path in repository.residue():
        if not os.path.relpath(path, repository.common).startswith('drover/'):
            os.unlink(path)  # what the killed foreign git left


# ---- kill -9 ----

BACK = ['removal_saved', 'removal_intended', 'removal_moved_aside', 'removal_checked']  # until then it comes back
GONE = ['removal_decided', 'removal_trashed']


def begin(repository):
    made = fail(repository, 1, 'fix')
    own = commit_in(made['path'], 'own')
    write(os.path.join(made['path'], 'README'), 'edited\n')
    write(os.path.join(made['path'], 'new'), 'n\n')
    return made, own


def check_nothing_lost(repository, made, own):
    """Whatever was killed: either all of it stands, or all of it is on the salvage ref."""
    if os.path.isdir(made['path']):
        assert read(os.path.join(made['path'], 'new')) == 'n\n' and read(os.path.join(made['path'], 'README')) == 'edited\n'
        assert git('rev-parse', 'HEAD', cwd=made['path']) == own
    else:
        assert repository.git('show', 'refs/drover/salvage/1:new') == 'n'
        assert repository.git('show', 'refs/drover/salvage/1:README') == 'edited'
        assert repository.git('rev-parse', 'refs/drover/salvage/1~1') == own
    assert repository.git('rev-parse', 'parallel/fix') == own


@pytest.mark.parametrize('then', ['repeat', 'prepare', 'prune'])
@pytest.mark.parametrize('place', [*BACK, *GONE])
def test_remove_killed_at_a_place(repository, place, then):
    made, own = begin(repository)
    request = removal(repository, target(made), salvages=True)
    done, _ = repository.call('remove', request, env={'DROVER_FAIL': place})
    if done.returncode == 0:
        pytest.skip('this build has no failpoints: the named places of kill -9 are not tested')
    assert done.returncode == -signal.SIGKILL and done.stdout == ''
    if then == 'prepare':
        repository.prepare(2)
    elif then == 'prune':
        repository.good('remove', removal(repository))
    if then != 'repeat':
        assert os.path.isdir(made['path']) == (place in BACK)
        assert find_aside(repository) == [] and os.listdir(os.path.join(repository.common, 'drover', 'intents')) == []
        check_nothing_lost(repository, made, own)
    result = repository.good('remove', request)['results'][0]
    assert (result['outcome'], result['salvage']) == ('removed' if place in BACK else 'gone', 'refs/drover/salvage/1')
    check_nothing_lost(repository, made, own)
    others = ['2'] if then == 'prepare' else []
    assert repository.worktrees() == repository.admins() == others
    assert repository.refs('refs/drover/salvage') == ['refs/drover/salvage/1']


@pytest.mark.parametrize('place', ['removal_moved_aside', 'removal_kept_beside'])
def test_killed_and_the_place_taken_meanwhile(repository, place):
    """It cannot go back, and nothing was proved yet: what stands there now stays, and what was moved aside too."""
    made, own = begin(repository)
    request = removal(repository, target(made), salvages=True)
    done, _ = repository.call('remove', request, env={'DROVER_FAIL': 'removal_moved_aside'})
    if done.returncode == 0:
        pytest.skip('this build has no failpoints: the named places of kill -9 are not tested')
    write(os.path.join(find_aside(repository)[0], 'late'), 'l\n')
    os.mkdir(made['path'])
    write(os.path.join(made['path'], 'mine'), 'm\n')
    write(os.path.join(os.path.dirname(made['path']), 'fix-kept-1'), 'taken\n')
    if place != 'removal_moved_aside':
        assert repository.call('remove', request, env={'DROVER_FAIL': place})[0].returncode == -signal.SIGKILL
    done = repository.good('remove', request)['results'][0]
    assert (done['outcome'], done['reason']) == ('kept', 'replaced') and os.listdir(made['path']) == ['mine']
    beside = made['path'] + '-kept-2'
    assert [read(os.path.join(beside, name)) for name in ('late', 'new')] == ['l\n', 'n\n'] and find_aside(repository) == []
    if place != 'removal_moved_aside':
        git('worktree', 'repair', beside, cwd=repository.path)
    assert git('rev-parse', 'HEAD', cwd=beside) == repository.git('rev-parse', 'parallel/fix') == own
    assert [one['path'] for one in listed(repository) if one['condition'] == 'ok'] == [beside]
    request['targets'] = [target({'path': beside})]
    request['is_abandoned'] = True
    assert repository.good('remove', request)['results'][0]['outcome'] == 'removed'
    assert 'late' in repository.git('log', '--all', '--name-only', '--format=') and repository.admins() == []


CALLS = '%file,fsync,fcntl,pwrite64,write'


def list_points(repository, request, is_all, most):
    """Where to kill: (call, n) pairs that occur in a run, at most `most`, evenly spread."""
    out = os.path.join(repository.folder, 'calls')
    repository.good('remove', request, env=NO_LEAK_CHECK,
                    before=[STRACE, *(['-f'] if is_all else []), '-qq', '-o', out, '-e', f'trace={CALLS}'])
    seen, found = {}, {}
    for line in read(out).splitlines():
        process, call = re.fullmatch(r'(\d+ +)?(\w+)\(.*|.*', line).groups()
        if call and call != 'execve':  # the one that starts it
            seen[process, call] = seen.get((process, call), 0) + 1
            found[call, seen[process, call]] = True
    found = list(found)
    return found[::max(1, -(-len(found) // most))]


def make_copy(template, folder, number):
    copy = Repository.__new__(Repository)
    copy.__dict__.update(template.__dict__)
    copy.folder = os.path.join(folder, str(number))
    copy.path = os.path.join(copy.folder, 'repo')
    copy.common = os.path.join(copy.path, '.git')
    shutil.copytree(template.path, copy.path, symlinks=True)
    return copy


@needs_strace
@pytest.mark.soak
@pytest.mark.limit(1800 if os.environ.get('DROVER_SOAK') else 200)
@pytest.mark.parametrize('is_all', [False, True], ids=['helper', 'helper-and-git'])
def test_remove_killed_anywhere(folder, is_all):
    """A dose of the places in check; every one of them in `make soak`."""
    template = Repository(folder, name='template')
    counted = make_copy(template, folder, 'counted')
    made, _ = begin(counted)
    most = 10000 if os.environ.get('DROVER_SOAK') else 14
    points = list_points(counted, removal(counted, target(made), salvages=True), is_all, most)
    assert len(points) > 9
    for number, (call, nth) in enumerate(points):
        repository = make_copy(template, folder, number)
        made, own = begin(repository)
        request = removal(repository, target(made), salvages=True)
        before = [STRACE, *(['-f'] if is_all else []), '-qq', '-o', '/dev/null', '-e', f'trace={call}', '-e',
                  f'inject={call}:signal=SIGKILL:when={nth}']
        repository.call('remove', request, before=before, env=NO_LEAK_CHECK)
        others = ['2'] if number % 3 == 0 else []
        if others:
            repository.prepare(2)
            check_nothing_lost(repository, made, own)
        result = repository.good('remove', request)['results'][0]
        assert result['outcome'] in ('removed', 'gone'), (call, nth, result)
        check_nothing_lost(repository, made, own)
        assert repository.worktrees() == others and repository.admins() == others, (call, nth)
        assert repository.refs('refs/drover/salvage') == ['refs/drover/salvage/1'], (call, nth)
        assert listed(repository) == [one for one in listed(repository) if one['task'] == 2]
        repository.assert_sound()
        shutil.rmtree(repository.folder)
