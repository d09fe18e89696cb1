"""drover-worktree by itself: JSON in, JSON out, on real repositories. DESIGN 5, FACTS 2.5 and 3.4, FAULTS 43-52.

The daemon is not needed here; what it makes of the answers is in test_worktree.py.
"""
import concurrent.futures
import json
import os
import re
import shutil
import signal
import socket
import subprocess

import pytest

import harness
from harness import git, read, write
from repositories import Repository, arm, commit_in, find_helper, make_trap

STRACE = shutil.which('strace')


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


# ---- inspect ----

def test_inspect_tells_what_a_submission_pins(repository):
    found = repository.good('inspect', {'directory': os.path.join(repository.path, 'src'), 'base': None})
    assert found == {'top': repository.path, 'common_dir': repository.common, 'prefix': 'src/', 'commit': repository.base}
    assert not os.path.exists(os.path.join(repository.common, 'drover'))


def test_inspect_in_a_linked_worktree(repository):
    linked = os.path.join(repository.folder, 'linked')
    repository.git('worktree', 'add', '-q', '-b', 'side', linked)
    later = commit_in(linked, 'more')
    found = repository.good('inspect', {'directory': linked})
    assert (found['top'], found['common_dir'], found['commit']) == (linked, repository.common, later)
    assert repository.good('inspect', {'directory': linked, 'base': 'main'})['commit'] == repository.base


def test_inspect_refuses_what_has_no_checkout(repository):
    outside = os.path.join(repository.folder, 'outside')
    bare = os.path.join(repository.folder, 'bare.git')
    empty = os.path.join(repository.folder, 'empty')
    for path in (outside, bare, empty):
        os.mkdir(path)
    git('init', '-q', '--bare', cwd=bare)
    git('init', '-q', cwd=empty)
    repository.bad('inspect', {'directory': outside}, 'not-a-repository', outside)
    repository.bad('inspect', {'directory': bare}, 'bare-repository', bare)
    repository.bad('inspect', {'directory': repository.common}, 'bare-repository')
    repository.bad('inspect', {'directory': empty}, 'no-commit', 'commit something')
    repository.bad('inspect', {'directory': outside + '/none'}, 'no-such-directory')
    assert sorted(os.listdir(outside)) == []


@pytest.mark.parametrize('base', ['no-such', '-rf', '--all', '', 'HEAD:README', 'main..main', '@{u}', 'a\nb', 'x' * 300])
def test_inspect_refuses_what_is_no_commit(repository, base):
    repository.bad('inspect', {'directory': repository.path, 'base': base}, 'bad-revision')


def test_inspect_refuses_an_old_git_and_none(repository):
    tools = os.path.join(repository.folder, 'tools')
    os.mkdir(tools)
    write(os.path.join(tools, 'git'), '#!/bin/sh\necho git version 2.37.9\n', 0o755)
    request = {'directory': repository.path}
    repository.bad('inspect', request, 'git-too-old', "'git version 2.37.9'", env={'PATH': tools + ':/bin'})
    os.unlink(os.path.join(tools, 'git'))
    repository.bad('inspect', request, 'git-missing', 'install git', env={'PATH': tools})


@pytest.mark.skipif(os.geteuid() != 0, reason='needs root to give a repository to another user')
def test_inspect_refuses_a_foreign_owner(repository):
    for folder, _, names in os.walk(repository.path):
        for path in [folder, *(os.path.join(folder, name) for name in names)]:
            os.chown(path, 65534, 65534)
    repository.bad('inspect', {'directory': repository.path}, 'unsafe-owner', 'safe.directory')
    write(os.path.join(repository.home, '.gitconfig'), '[safe]\n directory = *\n')
    repository.good('inspect', {'directory': repository.path})
    for folder, _, names in os.walk(repository.path):
        for path in [folder, *(os.path.join(folder, name) for name in names)]:
            os.chown(path, 0, 0)


@pytest.mark.parametrize('text', ['', 'null', '[]', '{"directory": 1}', '{', '{"a":1,"a":2}', '[' * 100000])
def test_requests_that_are_none(folder, text):
    done = subprocess.run([find_helper(), 'inspect'], input=text, text=True, capture_output=True, check=False, timeout=60)
    assert done.returncode == 1 and json.loads(done.stdout)['error']['code'] == 'bad-request'


def test_usage():
    done = subprocess.run([find_helper(), 'destroy'], input='{}', text=True, capture_output=True, check=False, timeout=60)
    assert done.returncode == 2 and 'usage' in done.stderr and done.stdout == ''


# ---- prepare ----

def test_prepare_makes_a_worktree(repository):
    made = repository.prepare(7, name='fix')
    assert made == {'path': os.path.join(repository.path, '.parallel-worktrees', 'fix'), 'branch': 'parallel/fix'}
    assert git('status', '--porcelain', '--branch', cwd=made['path']) == '## parallel/fix'
    assert git('rev-parse', 'HEAD', cwd=made['path']) == repository.base
    assert read(os.path.join(made['path'], 'README')) == 'hello\n'
    assert read(os.path.join(repository.common, 'worktrees', 'fix', 'locked')) == 'drover task 7 attempt 1\n'
    assert 'parallel/fix' not in read(os.path.join(repository.common, 'config'))


def test_prepare_again_gives_the_same(repository):
    made = repository.prepare(7, name='fix')
    write(os.path.join(made['path'], 'work'), 'half done\n')
    assert repository.prepare(7, name='fix') == made
    assert read(os.path.join(made['path'], 'work')) == 'half done\n'
    assert repository.branches() == ['parallel/fix'] and repository.worktrees() == ['fix']


def test_names_that_are_taken(repository):
    repository.git('branch', 'parallel/fix')
    repository.git('branch', 'parallel/dir/leaf')
    repository.git('branch', 'parallel/8')
    assert repository.prepare(1, name='fix')['branch'] == 'parallel/fix-1'
    assert repository.prepare(2, name='FIX')['branch'] == 'parallel/FIX-2'
    assert repository.prepare(3, name='dir')['branch'] == 'parallel/dir-3'
    assert repository.prepare(8)['branch'] == 'parallel/8-1'
    assert repository.prepare(9)['branch'] == 'parallel/9'
    assert repository.prepare(10, name='a..b')['branch'] == 'parallel/10'
    assert repository.prepare(11, name='a.lock')['branch'] == 'parallel/11'
    assert repository.prepare(12, name='a.')['branch'] == 'parallel/12'
    assert repository.worktrees() == sorted(['fix', 'FIX-2', 'dir', '8', '9', '10', '11', '12'])
    assert repository.prepare(13, name='fix')['path'].endswith('/fix-13')
    for branch in ('parallel/fix', 'parallel/dir/leaf', 'parallel/8'):
        assert repository.git('rev-parse', branch) == repository.base


def test_a_branch_named_parallel_is_in_the_way(repository):
    repository.git('branch', 'parallel')
    repository.bad('prepare', repository.request(1, name='fix'), 'name-taken', "'parallel'")
    assert repository.admins() == [] and repository.worktrees() == []


@pytest.mark.parametrize('name', ['../x', '-rf', '.git', 'a/b', 'a\nb', 'é', '', ' ', 'x' * 200, '@{u}', 'HEAD'])
def test_names_that_lead_elsewhere(repository, name):
    made = repository.prepare(5, name=name)
    assert made['branch'] == ('parallel/HEAD' if name == 'HEAD' else 'parallel/5')
    assert os.path.dirname(made['path']) == os.path.join(repository.path, '.parallel-worktrees')


def test_two_databases_with_the_same_numbers(repository):
    first = repository.prepare(1, name='fix', owner='aaaa')
    write(os.path.join(first['path'], 'mine'), 'm\n')
    second = repository.prepare(1, name='fix', owner='bbbb')
    assert second['path'] != first['path'] and second['branch'] == 'parallel/fix-1'
    repository.collect(1, second, owner='bbbb')
    assert read(os.path.join(first['path'], 'mine')) == 'm\n'
    repository.bad('prepare', repository.request(1, owner='../x'), 'bad-request')


def test_a_database_that_began_anew(repository):
    """The numbers start at 1 again, as after `make demo`: what was collected is not taken for the new task's."""
    for number in range(3):
        made = repository.prepare(1, name='fix')
        write(os.path.join(made['path'], 'out'), f'{number}\n')
        assert repository.collect(1, made, has_succeeded=number < 2)['changed_files'] == 1
    assert repository.branches() == ['parallel/fix', 'parallel/fix-1', 'parallel/fix-1-1']
    assert [repository.git('show', f'{branch}:out') for branch in repository.branches()] == ['0', '1', '2']


@pytest.mark.parametrize('kind', ['link', 'file', 'foreign'])
def test_a_root_that_is_not_ours(folder, kind):
    repository = Repository(folder)
    root = os.path.join(repository.path, '.parallel-worktrees')
    target = os.path.join(folder, 'target')
    os.mkdir(target)
    if kind == 'link':
        os.symlink(target, root)
    elif kind == 'file':
        write(root, 'x\n')
    elif os.geteuid() != 0:
        pytest.skip('needs root to give a directory to another user')
    else:
        os.mkdir(root)
        os.chown(root, 65534, 65534)
    repository.bad('prepare', repository.request(1), 'unsafe-directory', root)
    assert os.listdir(target) == [] and repository.branches() == [] and repository.admins() == []


def test_a_linked_drover_directory_is_refused(folder):
    repository = Repository(folder)
    target = os.path.join(folder, 'target')
    os.mkdir(target)
    os.symlink(target, os.path.join(repository.common, 'drover'))
    repository.bad('prepare', repository.request(1), 'unsafe-directory')
    assert os.listdir(target) == []


def test_from_a_linked_worktree_the_root_is_the_main_ones(repository):
    linked = os.path.join(repository.folder, 'linked')
    repository.git('worktree', 'add', '-q', '-b', 'side', linked)
    made = repository.good('prepare', dict(repository.request(1, name='fix'), top=linked))
    assert made['path'] == os.path.join(repository.path, '.parallel-worktrees', 'fix')
    assert git('status', '--porcelain', cwd=linked) == '' and not os.path.exists(os.path.join(linked, '.parallel-worktrees'))


def test_linked_worktrees_of_a_bare_repository(folder):
    source = Repository(folder)
    bare, linked = os.path.join(folder, 'hub.git'), os.path.join(folder, 'linked')
    git('clone', '-q', '--bare', source.path, bare, cwd=folder)
    git('worktree', 'add', '-q', '-b', 'side', linked, cwd=bare)
    found = source.good('inspect', {'directory': linked})
    assert (found['top'], found['common_dir']) == (linked, bare)
    request = {'task': 1, 'attempt': 1, 'name': 'fix', 'top': linked, 'common_dir': bare, 'commit': source.base}
    made = source.good('prepare', request)
    assert made['path'] == os.path.join(linked, '.parallel-worktrees', 'fix')
    write(os.path.join(made['path'], 'new'), 'n\n')
    source.good('collect', dict(request, **made, has_succeeded=True))
    assert git('show', 'parallel/fix:new', cwd=bare) == 'n'
    assert git('status', '--porcelain', cwd=linked) == ''


def test_a_separate_git_directory(folder):
    repository = Repository(folder, init=['--separate-git-dir', os.path.join(folder, 'elsewhere')])
    found = repository.good('inspect', {'directory': repository.path})
    repository.common = found['common_dir']
    assert repository.common == os.path.join(folder, 'elsewhere')
    made = repository.prepare(1, name='fix')
    assert made['path'] == os.path.join(repository.path, '.parallel-worktrees', 'fix')
    write(os.path.join(made['path'], 'new'), 'n\n')
    assert repository.collect(1, made)['changed_files'] == 1
    repository.assert_sound()


@pytest.mark.parametrize('name', ['with blank', 'mit-Ümläut-日本', "quote's \"here\"", '-rf', 'x' * 200])
def test_odd_paths(folder, name):
    repository = Repository(folder, name=name, files={'a file': 'a\n', 'ünï/ç': 'b\n', '-dash': 'c\n'})
    assert repository.good('inspect', {'directory': repository.path})['top'] == repository.path
    made = repository.prepare(1, name='fix')
    write(os.path.join(made['path'], 'new\nline \u1234'), 'n\n')
    write(os.path.join(made['path'], '-dash'), 'changed\n')
    assert repository.collect(1, made)['changed_files'] == 2
    assert repository.git('show', 'parallel/fix:-dash') == 'changed'
    repository.assert_sound()


def test_a_line_break_in_the_path_is_refused(folder):
    repository = Repository(folder, name='a\nb')
    repository.bad('inspect', {'directory': repository.path}, 'bad-path')
    repository.bad('prepare', repository.request(1), 'bad-path')


def test_a_sha256_repository(folder):
    repository = Repository(folder, init=['--object-format=sha256'])
    assert len(repository.base) == 64
    made = repository.prepare(1, name='fix')
    write(os.path.join(made['path'], 'new'), 'n\n')
    assert len(repository.collect(1, made)['commit']) == 64
    repository.assert_sound()


def test_forty_at_once(repository):
    with concurrent.futures.ThreadPoolExecutor(40) as pool:
        made = list(pool.map(lambda task: repository.prepare(task, name='same'), range(1, 41)))
        assert len({one['path'] for one in made}) == len({one['branch'] for one in made}) == 40
        for one in made:
            assert git('status', '--porcelain', cwd=one['path']) == ''
        assert len(repository.admins()) == 40 and repository.residue() == []
        done = list(pool.map(lambda pair: repository.collect(*pair), enumerate(made, 1)))
    assert all(one['is_removed'] for one in done)
    assert repository.worktrees() == [] and repository.admins() == [] and len(repository.branches()) == 40


def test_configuration_per_worktree(folder):
    """Such a repository's worktrees are made by git itself: it copies sparse patterns."""
    repository = Repository(folder, files={'README': 'hello\n', 'src/a.c': 'a\n', 'doc/b': 'b\n'})
    repository.git('sparse-checkout', 'set', 'src')
    made = repository.prepare(1)
    assert sorted(os.listdir(made['path'])) == ['.git', 'README', 'src']
    write(os.path.join(made['path'], 'src', 'new'), 'n\n')
    done = repository.collect(1, made)
    assert done['is_removed'] and done['changed_files'] == 1
    assert repository.git('show', 'parallel/1:doc/b') == 'b'
    repository.assert_sound()


def test_the_lock_is_waited_for_and_its_holder_named(repository):
    repository.prepare(1)
    holder = ('import fcntl, struct, sys, time\n'
              'file = open(sys.argv[1], "r+b")\n'
              'fcntl.fcntl(file, 37, struct.pack("hhqqi4x", fcntl.F_WRLCK, 0, 0, 1, 0))\n'  # F_OFD_SETLK
              'print("held", flush=True)\nsys.stdin.read()\n')
    lock = os.path.join(repository.common, 'drover', 'lock')
    with subprocess.Popen(['python3', '-c', holder, lock], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                          text=True) as process:
        assert process.stdout.readline() == 'held\n'
        repository.bad('prepare', repository.request(2, lock_timeout_ms=200), 'repository-busy', '(task 1, attempt 1)')
        assert repository.branches() == ['parallel/1']
        process.stdin.close()
    repository.prepare(2)


# ---- collect ----

def test_what_is_uncommitted_becomes_a_commit(repository):
    write(os.path.join(repository.home, '.gitconfig'), '[user]\n name = Ada\n email = ada@example.org\n')
    made = repository.prepare(7, attempt=2, name='fix')
    write(os.path.join(made['path'], 'new'), 'a\nb\n')
    write(os.path.join(made['path'], 'README'), 'changed\n')
    os.unlink(os.path.join(made['path'], 'src', 'a.c'))
    done = repository.collect(7, made, attempt=2, message='fix: it\n\nBody.\n')
    assert done == {'path': None, 'branch': 'parallel/fix', 'commit': repository.git('rev-parse', 'parallel/fix'),
                    'changed_files': 3, 'insertions': 3, 'deletions': 2, 'is_removed': True, 'is_missing': False,
                    'salvage': None, 'note': None}
    assert repository.git('log', '-1', '--format=%P %an <%ae> %cn%n%B', 'parallel/fix') == (
        f'{repository.base} Ada <ada@example.org> Ada\nfix: it\n\nBody.\n\nDrover-Task: 7\nDrover-Attempt: 2\n').rstrip('\n')
    assert repository.git('ls-tree', '-r', '--name-only', 'parallel/fix').split() == ['README', 'new']
    assert repository.worktrees() == [] and repository.admins() == [] and repository.refs('refs/drover') == []
    assert repository.collect(7, made, attempt=2) == done


def test_the_identity_that_is_used_without_one(repository):
    write(os.path.join(repository.home, '.gitconfig'), '[user]\n useConfigOnly = true\n[commit]\n gpgSign = true\n')
    made = repository.prepare(1)
    write(os.path.join(made['path'], 'new'), 'n\n')
    repository.collect(1, made)
    assert repository.git('log', '-1', '--format=%an <%ae> %cn <%ce>', 'parallel/1') == \
        'drover <drover@localhost> drover <drover@localhost>'


def test_nothing_changed(repository):
    made = repository.prepare(1)
    done = repository.collect(1, made)
    assert (done['commit'], done['changed_files'], done['is_removed']) == (repository.base, 0, True)
    assert repository.branches() == ['parallel/1']


def test_the_agents_own_commits_stay(repository):
    made = repository.prepare(1)
    own = commit_in(made['path'], 'one')
    assert repository.collect(1, made)['commit'] == own
    made = repository.prepare(2)
    own = commit_in(made['path'], 'one')
    write(os.path.join(made['path'], 'staged'), 's\n')
    git('add', 'staged', cwd=made['path'])
    write(os.path.join(made['path'], 'two'), '2\n')
    done = repository.collect(2, made)
    assert repository.git('rev-parse', 'parallel/2~1') == own
    assert done['changed_files'] == 3


def test_ignored_files_are_left_out(repository):
    made = repository.prepare(1)
    write(os.path.join(made['path'], '.gitignore'), '*.o\n')
    write(os.path.join(made['path'], 'a.o'), 'o\n')
    assert repository.collect(1, made)['changed_files'] == 1


@pytest.mark.parametrize('more', [{'has_succeeded': False}, {'keep': True}])
def test_a_worktree_that_stays(repository, more):
    made = repository.prepare(1, name='fix')
    write(os.path.join(made['path'], 'new'), 'n\n')
    done = repository.collect(1, made, **more)
    assert (done['path'], done['is_removed'], done['changed_files']) == (made['path'], False, 1)
    assert git('status', '--porcelain', cwd=made['path']) == ''
    assert repository.collect(1, made, **more) == done
    assert repository.git('rev-list', '--count', f'{repository.base}..parallel/fix') == '1'
    write(os.path.join(made['path'], 'later'), 'l\n')
    assert repository.collect(1, made)['is_removed']
    assert repository.git('rev-list', '--count', f'{repository.base}..parallel/fix') == '2'


def test_another_attempt_starts_from_base(repository):
    made = repository.prepare(3, name='fix')
    own = commit_in(made['path'], 'one')
    write(os.path.join(made['path'], 'two'), '2\n')
    done = repository.collect(3, made, has_succeeded=False, is_again=True)
    assert done['salvage'] == 'refs/drover/salvage/3-1' and done['is_removed'] and done['changed_files'] == 2
    assert repository.git('rev-parse', 'refs/drover/salvage/3-1~1') == own
    assert repository.git('show', 'refs/drover/salvage/3-1:two') == '2'
    assert repository.collect(3, made, has_succeeded=False, is_again=True) == done
    assert repository.git('rev-parse', 'parallel/fix') == repository.base
    second = repository.prepare(3, attempt=2, name='fix')
    assert second == made and sorted(os.listdir(second['path'])) == ['.git', 'README', 'src']
    assert repository.collect(3, second, attempt=2)['commit'] == repository.base
    assert repository.branches() == ['parallel/fix']


def test_another_attempt_after_nothing(repository):
    made = repository.prepare(3, name='fix')
    assert repository.collect(3, made, has_succeeded=False, is_again=True)['salvage'] is None
    assert repository.refs('refs/drover') == []
    assert repository.prepare(3, attempt=2, name='fix') == made


def test_detached_ahead_of_the_branch(repository):
    made = repository.prepare(1)
    git('checkout', '-q', '--detach', cwd=made['path'])
    own = commit_in(made['path'], 'one')
    write(os.path.join(made['path'], 'two'), '2\n')
    done = repository.collect(1, made)
    assert done['salvage'] is None and repository.git('rev-parse', 'parallel/1~1') == own
    assert repository.git('show', 'parallel/1:two') == '2'


def test_detached_beside_the_branch(repository):
    made = repository.prepare(1)
    first = commit_in(made['path'], 'one')
    git('checkout', '-q', '--detach', repository.base, cwd=made['path'])
    write(os.path.join(made['path'], 'two'), '2\n')
    done = repository.collect(1, made)
    assert done['salvage'] == 'refs/drover/salvage/1' and done['commit'] == first and done['is_removed']
    assert repository.git('show', 'refs/drover/salvage/1:two') == '2'
    assert repository.git('rev-parse', 'refs/drover/salvage/1~1') == repository.base


def test_detached_behind_the_branch_with_nothing_new(repository):
    made = repository.prepare(1)
    first = commit_in(made['path'], 'one')
    git('checkout', '-q', '--detach', repository.base, cwd=made['path'])
    done = repository.collect(1, made)
    assert done['salvage'] is None and done['commit'] == first


def test_another_attempt_when_both_have_work(repository):
    made = repository.prepare(1)
    first = commit_in(made['path'], 'one')
    git('checkout', '-q', '--detach', repository.base, cwd=made['path'])
    write(os.path.join(made['path'], 'two'), '2\n')
    done = repository.collect(1, made, has_succeeded=False, is_again=True)
    assert repository.git('show', f'{done["salvage"]}:two') == '2'
    assert first in repository.git('for-each-ref', '--format=%(objectname)', 'refs/drover/salvage').split()
    assert repository.git('rev-parse', 'parallel/1') == repository.base


def test_a_branch_of_the_tasks_own(repository):
    made = repository.prepare(1)
    git('checkout', '-q', '-b', 'feature', cwd=made['path'])
    own = commit_in(made['path'], 'one')
    write(os.path.join(made['path'], 'two'), '2\n')
    repository.collect(1, made)
    assert repository.git('rev-parse', 'feature') == own == repository.git('rev-parse', 'parallel/1~1')


def test_a_branch_deleted_or_renamed_by_the_task(repository):
    made = repository.prepare(1)
    git('branch', '-m', 'mine', cwd=made['path'])
    own = commit_in(made['path'], 'one')
    assert repository.collect(1, made)['commit'] == own == repository.git('rev-parse', 'parallel/1')
    made = repository.prepare(2)
    git('update-ref', '-d', 'refs/heads/parallel/2', cwd=made['path'])
    write(os.path.join(made['path'], 'two'), '2\n')
    repository.collect(2, made)
    assert repository.git('rev-parse', 'parallel/2~1') == repository.base


def test_an_orphan_branch(repository):
    made = repository.prepare(1)
    git('checkout', '-q', '--orphan', 'fresh', cwd=made['path'])
    write(os.path.join(made['path'], 'two'), '2\n')
    done = repository.collect(1, made)
    assert repository.git('show', f'{done["commit"]}:two') == '2'


def test_a_salvage_ref_is_never_replaced(repository):
    other = repository.git('commit-tree', '-m', 'other', f'{repository.base}^{{tree}}')
    repository.git('update-ref', 'refs/drover/salvage/1-1', other)
    made = repository.prepare(1)
    write(os.path.join(made['path'], 'new'), 'n\n')
    done = repository.collect(1, made, has_succeeded=False, is_again=True)
    assert repository.git('rev-parse', 'refs/drover/salvage/1-1') == other
    assert done['salvage'].startswith('refs/drover/salvage/1-1-')
    assert repository.git('show', f'{done["salvage"]}:new') == 'n'


def test_files_that_became_directories(repository):
    made = repository.prepare(1)
    os.unlink(os.path.join(made['path'], 'README'))
    os.mkdir(os.path.join(made['path'], 'README'))
    write(os.path.join(made['path'], 'README', 'inside'), 'i\n')
    shutil.rmtree(os.path.join(made['path'], 'src'))
    write(os.path.join(made['path'], 'src'), 'now a file\n')
    repository.collect(1, made)
    assert repository.git('ls-tree', '-r', '--name-only', 'parallel/1').split() == ['README/inside', 'src']


def test_links_modes_and_odd_things(repository):
    made = repository.prepare(1)
    os.symlink('/etc/passwd', os.path.join(made['path'], 'link'))
    os.symlink('/nowhere', os.path.join(made['path'], 'dangling'))
    write(os.path.join(made['path'], 'tool'), '#!/bin/sh\n', 0o755)
    os.mkfifo(os.path.join(made['path'], 'fifo'))
    with socket.socket(socket.AF_UNIX) as listener:
        here = os.getcwd()
        os.chdir(made['path'])
        listener.bind('socket')
        os.chdir(here)
    os.makedirs(os.path.join(made['path'], 'locked', 'deep'))
    write(os.path.join(made['path'], 'locked', 'deep', 'file'), 'f\n')
    os.chmod(os.path.join(made['path'], 'locked', 'deep'), 0o555)
    assert repository.collect(1, made)['is_removed']
    listed = repository.git('ls-tree', '-r', '--format=%(objectmode) %(path)', 'parallel/1').splitlines()
    assert {'120000 link', '120000 dangling', '100755 tool', '100644 locked/deep/file'} < set(listed)
    assert len(listed) == 6


def stop_in_the_middle(repository, made, how):
    """A detached commit, its hash, and `how` to take it over, which stops at a conflict."""
    write(os.path.join(made['path'], 'README'), 'precious\n')
    git('checkout', '-q', '--detach', cwd=made['path'])
    git('commit', '-qam', 'precious', cwd=made['path'])
    precious = git('rev-parse', 'HEAD', cwd=made['path'])
    git('checkout', '-q', made['branch'], cwd=made['path'])
    commit_in(made['path'], 'README', 'ours\n')
    stopped = subprocess.run(['git', *how, precious], cwd=made['path'], capture_output=True, check=False,
                             env=dict(repository.environment, GIT_COMMITTER_NAME='x', GIT_COMMITTER_EMAIL='x@y'))
    assert stopped.returncode == 1
    return precious


@pytest.mark.parametrize('how, says', [(['merge'], 'merge'), (['cherry-pick'], 'cherry-pick'), (['revert'], 'revert'),
                                       (['merge', '--squash'], 'conflicts')])
def test_an_unfinished_merge_keeps_the_worktree(repository, how, says):
    made = repository.prepare(1)
    stop_in_the_middle(repository, made, how)
    before = git('ls-files', '-s', cwd=made['path'])
    done = repository.collect(1, made)
    assert not done['is_removed'] and says in done['note'] and done['path'] == made['path']
    assert repository.git('show', f'{done["commit"]}:README') == 'ours'
    assert git('ls-files', '-s', cwd=made['path']) == before and '<<<<<<<' in read(os.path.join(made['path'], 'README'))


def test_an_unfinished_bisection_keeps_the_worktree(repository):
    made = repository.prepare(1)
    commit_in(made['path'], 'one')
    git('bisect', 'start', cwd=made['path'])
    done = repository.collect(1, made)
    assert not done['is_removed'] and 'bisect' in done['note']


@pytest.mark.parametrize('is_again', [False, True])
def test_commits_that_only_the_log_of_its_head_has(repository, is_again):
    made = repository.prepare(1)
    git('checkout', '-q', '--detach', cwd=made['path'])
    commit_in(made['path'], 'one')
    tip = commit_in(made['path'], 'two')
    git('checkout', '-q', made['branch'], cwd=made['path'])
    other = commit_in(made['path'], 'README', 'amended\n')
    git('reset', '-q', '--hard', 'HEAD~1', cwd=made['path'])
    commit_in(made['path'], 'three')
    done = repository.collect(1, made, has_succeeded=not is_again, is_again=is_again)
    usual = 'refs/drover/salvage/1' + ('-1' if is_again else '')
    assert done['is_removed']
    assert 'salvage' in done['note'] and done['salvage'].startswith(usual)
    kept = repository.git('for-each-ref', '--format=%(refname) %(objectname)', 'refs/drover/salvage').splitlines()
    expected = [f'{usual}-{one[:12]} {one}' for one in (tip, other)]
    if is_again:
        expected.append(f'{usual} {done["commit"]}')
    assert sorted(kept) == sorted(expected)


def test_a_log_that_names_nothing_and_all_sorts(repository):
    """What is not there any more, or is no commit, is nobody's loss."""
    made = repository.prepare(1)
    commit_in(made['path'], 'one')
    blob = repository.git('hash-object', '-w', 'README')
    with open(os.path.join(repository.common, 'worktrees', '1', 'logs', 'HEAD'), 'a', encoding='ascii') as log:
        log.write(f'{"0" * 40} {"ab" * 20} x <x> 1 +0000\tx\n{blob} zz\n\n--all {"cd" * 20}')
    done = repository.collect(1, made)
    assert done['is_removed'] and done['note'] is None and done['salvage'] is None


def test_an_unfinished_rebase_keeps_the_worktree(repository):
    made = repository.prepare(1)
    commit_in(made['path'], 'one')
    git('rebase', '-q', '-i', 'HEAD~1', cwd=made['path'], GIT_SEQUENCE_EDITOR='sed -i 1s/pick/edit/')
    write(os.path.join(made['path'], 'two'), '2\n')
    done = repository.collect(1, made)
    assert not done['is_removed'] and 'rebase' in done['note']
    assert repository.git('show', f'{done["salvage"] or done["commit"]}:two') == '2'


@pytest.mark.parametrize('is_added', [False, True])
def test_a_repository_in_the_worktree_keeps_it(repository, is_added):
    made = repository.prepare(1, name='fix')
    inner = os.path.join(made['path'], 'inner')
    harness.make_repository(inner)
    write(os.path.join(inner, 'README'), 'uncommitted\n')
    write(os.path.join(made['path'], 'new'), 'n\n')
    if is_added:
        git('add', 'inner', cwd=made['path'])
    done = repository.collect(1, made)
    assert not done['is_removed'] and "'inner'" in done['note'] and done['path'] == made['path']
    assert repository.git('show', 'parallel/fix:new') == 'n'
    assert read(os.path.join(inner, 'README')) == 'uncommitted\n'
    done = repository.collect(1, made, has_succeeded=False, is_again=True)
    assert not done['is_removed']
    assert repository.prepare(1, attempt=2, name='fix')['path'] != made['path']


def test_a_submodule(repository):
    other = Repository(repository.folder, name='other')
    repository.git('-c', 'protocol.file.allow=always', 'submodule', 'add', '-q', other.path, 'sub')
    repository.git('commit', '-qm', 'submodule')
    repository.base = repository.git('rev-parse', 'HEAD')
    made = repository.prepare(1)
    write(os.path.join(made['path'], 'new'), 'n\n')
    assert repository.collect(1, made)['is_removed']
    made = repository.prepare(2)
    git('-c', 'protocol.file.allow=always', 'submodule', 'update', '-q', '--init', cwd=made['path'])
    inside = commit_in(os.path.join(made['path'], 'sub'), 'more')
    done = repository.collect(2, made)
    assert not done['is_removed'] and 'repository of its own' in done['note']
    assert inside in repository.git('ls-tree', done['commit'], 'sub')
    repository.git('reset', '-q', '--hard', 'HEAD~1')
    shutil.rmtree(os.path.join(repository.path, 'sub'), ignore_errors=True)
    repository.git('config', '--remove-section', 'submodule.sub')


def test_files_marked_not_to_be_looked_at(repository):
    made = repository.prepare(1)
    git('update-index', '--assume-unchanged', 'README', cwd=made['path'])
    write(os.path.join(made['path'], 'README'), 'hidden\n')
    done = repository.collect(1, made)
    assert not done['is_removed'] and 'assume-unchanged' in done['note']
    assert read(os.path.join(made['path'], 'README')) == 'hidden\n'


def test_lock_files_of_a_killed_git_are_removed(repository):
    made = repository.prepare(1)
    write(os.path.join(made['path'], 'new'), 'n\n')
    write(os.path.join(repository.common, 'worktrees', '1', 'index.lock'), '')
    write(os.path.join(repository.common, 'refs', 'heads', 'parallel', '1.lock'), '')
    assert repository.collect(1, made)['changed_files'] == 1


@pytest.mark.parametrize('kind', ['gone', 'link', 'file', 'directory', 'moved', 'unlinked'])
@pytest.mark.parametrize('more', [{}, {'has_succeeded': False}, {'has_succeeded': False, 'is_again': True}])
def test_a_vanished_worktree(repository, kind, more):
    made = repository.prepare(1, name='fix')
    own = commit_in(made['path'], 'one')
    other = os.path.join(repository.folder, 'other')
    if kind == 'moved':
        os.rename(made['path'], other)
    elif kind == 'unlinked':
        os.unlink(os.path.join(made['path'], '.git'))
    else:
        shutil.rmtree(made['path'])
    if kind == 'link':
        os.mkdir(other)
        write(os.path.join(other, 'precious'), 'p\n')
        os.symlink(other, made['path'])
    elif kind == 'file':
        write(made['path'], 'in the way\n')
    elif kind == 'directory':
        os.mkdir(made['path'])
        write(os.path.join(made['path'], 'foreign'), 'f\n')
    done = repository.bad('collect', repository.collect_request(1, made, **more), 'worktree-missing', made['path'])
    assert (done['commit'], done['changed_files'], done['is_missing'], done['path']) == (own, 1, True, None)
    again = repository.bad('collect', repository.collect_request(1, made, **more), 'worktree-missing')
    assert again['commit'] == own
    saved = 'refs/drover/salvage/1-1' if more.get('is_again') else 'parallel/fix'
    assert repository.git('rev-parse', saved) == own
    if kind == 'link':
        assert read(os.path.join(other, 'precious')) == 'p\n' and os.path.islink(made['path'])
    if kind == 'moved':
        assert read(os.path.join(other, 'one')) == 'x\n'
    if kind == 'unlinked':
        assert read(os.path.join(made['path'], 'one')) == 'x\n'
    second = repository.prepare(1, attempt=2, name='fix')
    assert git('status', '--porcelain', cwd=second['path']) == ''
    if kind in ('link', 'file', 'directory', 'unlinked'):
        assert second['path'] != made['path']


def test_collect_refuses_other_places(repository):
    made = repository.prepare(1)
    for path in (repository.path, repository.path + '/.parallel-worktrees', repository.path + '/.parallel-worktrees/.trash',
                 repository.path + '/.parallel-worktrees/../src', '/', None):
        request = dict(repository.collect_request(1, made), path=path)
        repository.bad('collect', request, 'bad-request')
    for branch in ('main', 'parallel/', 'parallel/../main', 'parallel/a b', None, 'parallel/x\ndelete refs/heads/main'):
        request = dict(repository.collect_request(1, made), branch=branch)
        repository.bad('collect', request, 'bad-request')
    assert repository.collect(1, made)['is_removed']


# ---- hostile repositories ----

@pytest.mark.parametrize('name', ['evil', 'a=b', 'a.b', 'sp ace', 'UP', 'a"b'])
def test_nothing_of_the_repositorys_is_run(folder, name):
    repository = Repository(folder, files={'README': 'hello\n', 'b.two': '2\n', '.gitattributes': '*.two filter=two\n'})
    trap = os.path.join(folder, 'trap')
    arm(repository, trap, name)
    if name not in ('sp ace', 'a"b'):  # names that attributes cannot have, but configuration can
        subprocess.run(['git', 'add', '--renormalize', '.'], cwd=repository.path, env=repository.environment, check=False,
                       capture_output=True)
        assert os.path.exists(trap), 'the trap does not work'
        os.unlink(trap)
    repository.good('inspect', {'directory': repository.path, 'base': 'main'})
    made = repository.prepare(1)
    write(os.path.join(made['path'], 'README'), 'changed\n')
    write(os.path.join(made['path'], 'new.two'), 'n\n')
    write(os.path.join(made['path'], '.gitattributes'), f'* filter={name} diff={name}\n')
    repository.collect(1, made, has_succeeded=False)
    os.utime(os.path.join(made['path'], 'README'))
    done = repository.collect(1, made, has_succeeded=False, is_again=True)
    assert not os.path.exists(trap), read(trap)
    # What the filters would have changed is left where it is: test_git_hostile.py.
    assert not done['is_removed'] and 'has the filter' in done['note']
    assert read(os.path.join(made['path'], 'README')) == 'changed\n'


def test_nothing_of_an_inner_repositorys_is_run(folder):
    repository = Repository(folder)
    trap = os.path.join(folder, 'trap')
    made = repository.prepare(1)
    for name, is_added in (('added', True), ('loose', False)):
        inner = Repository(made['path'], name=name)
        write(os.path.join(inner.path, 'README'), 'dirty\n')
        if is_added:
            git('add', name, cwd=made['path'])
        inner.folder = folder
        arm(inner, trap)
        os.utime(os.path.join(inner.path, 'README'))
    subprocess.run(['git', 'add', '-A'], cwd=made['path'], env=repository.environment, check=False, capture_output=True)
    assert os.path.exists(trap), 'the trap does not work'
    os.unlink(trap)
    git('reset', '-q', cwd=made['path'], GIT_CONFIG_COUNT='1', GIT_CONFIG_KEY_0='submodule.recurse',
        GIT_CONFIG_VALUE_0='false')
    if os.path.exists(trap):
        os.unlink(trap)
    assert not repository.collect(1, made)['is_removed']
    assert not os.path.exists(trap), read(trap)


def test_configuration_of_the_worktree_that_lies(folder):
    """What a task can write in its own admin directory sends git nowhere else."""
    repository = Repository(folder)
    elsewhere = Repository(folder, name='elsewhere', files={'secret': 's\n'})
    trap = os.path.join(folder, 'trap')
    script = make_trap(folder, trap)
    made = repository.prepare(1)
    admin = os.path.join(repository.common, 'worktrees', '1')
    repository.git('config', 'extensions.worktreeConfig', 'true')
    write(os.path.join(admin, 'config.worktree'),
          f'[core]\n worktree = {elsewhere.path}\n fsmonitor = {script}\n[filter "x"]\n clean = {script}\n')
    write(os.path.join(made['path'], '.gitattributes'), '* filter=x\n')
    write(os.path.join(made['path'], 'new'), 'n\n')
    assert "filter 'x'" in repository.collect(1, made)['note']
    write(os.path.join(made['path'], '.gitattributes'), '')
    repository.collect(1, made)
    listed = repository.git('ls-tree', '-r', '--name-only', 'parallel/1').split()
    assert listed == ['.gitattributes', 'README', 'new', 'src/a.c']
    assert not os.path.exists(trap) and sorted(os.listdir(elsewhere.path)) == ['.git', 'secret']
    assert read(os.path.join(elsewhere.path, 'secret')) == 's\n'


def test_a_common_directory_that_lies(repository):
    elsewhere = Repository(repository.folder, name='elsewhere', files={'secret': 's\n'})
    made = repository.prepare(1)
    write(os.path.join(repository.common, 'worktrees', '1', 'commondir'), elsewhere.common + '\n')
    write(os.path.join(made['path'], 'new'), 'n\n')
    repository.bad('collect', repository.collect_request(1, made), 'worktree-missing')
    assert elsewhere.refs('refs/heads') == ['refs/heads/main'] and os.path.exists(os.path.join(made['path'], 'new'))


@pytest.mark.parametrize('name', ['worktrees/1/index', 'worktrees/1/HEAD', 'worktrees/1/logs', 'logs/refs/heads/parallel/1',
                                  'logs/refs/heads/parallel', 'refs/heads/parallel/1'])
def test_links_among_gits_files_are_not_written_through(repository, name):
    made = repository.prepare(1)
    commit_in(made['path'], 'own')
    write(os.path.join(made['path'], 'new'), 'n\n')
    path = os.path.join(repository.common, name)
    target = os.path.join(repository.folder, 'precious')
    os.rename(path, path + '-kept')
    if os.path.isdir(path + '-kept'):
        shutil.copytree(path + '-kept', target)
    else:
        shutil.copy(path + '-kept', target)

    def content():
        paths = [os.path.join(folder, name) for folder, _, names in os.walk(target) for name in names] or [target]
        return {path: read(path) for path in paths}
    before = content()
    os.symlink(target, path)
    repository.bad('collect', repository.collect_request(1, made), 'unsafe-directory', path)
    assert content() == before and not os.path.exists(target + '.lock')
    os.unlink(path)
    os.rename(path + '-kept', path)
    assert repository.collect(1, made)['changed_files'] == 2


def test_a_git_file_that_points_elsewhere(repository):
    made = repository.prepare(1)
    other = repository.prepare(2)
    write(os.path.join(made['path'], '.git'), f'gitdir: {repository.common}/worktrees/2\n')
    repository.bad('collect', repository.collect_request(1, made), 'worktree-missing')
    assert git('status', '--porcelain', cwd=other['path']) == ''


def test_leaked_git_variables_are_not_obeyed(repository):
    """FAULTS 52: a hook in a linked worktree exports these."""
    linked = os.path.join(repository.folder, 'linked')
    repository.git('worktree', 'add', '-q', '-b', 'side', linked)
    admin = os.path.join(repository.common, 'worktrees', 'linked')
    before = read(os.path.join(admin, 'index'))
    leaked = {'GIT_DIR': admin, 'GIT_INDEX_FILE': os.path.join(admin, 'index'), 'GIT_WORK_TREE': linked, 'GIT_PREFIX': 'x/',
              'GIT_CONFIG_PARAMETERS': "'core.bare=true'", 'GIT_OBJECT_DIRECTORY': '/nowhere'}
    assert repository.good('inspect', {'directory': repository.path}, env=leaked)['top'] == repository.path
    made = repository.good('prepare', repository.request(1), env=leaked)
    write(os.path.join(made['path'], 'new'), 'n\n')
    repository.good('collect', repository.collect_request(1, made), env=leaked)
    assert read(os.path.join(admin, 'index')) == before and git('status', '--porcelain', cwd=linked) == ''


def test_damaged_records_are_set_aside(repository):
    repository.prepare(1)
    intents = os.path.join(repository.common, 'drover', 'intents')
    write(os.path.join(intents, '9-1.json'), '{"verb": "remove", "directory": "../../../etc"}')
    write(os.path.join(intents, '8-1.json'), '')
    write(os.path.join(intents, '7-1.json.new'), '{')
    os.mkfifo(os.path.join(intents, '6-1.json'))
    os.symlink('/etc/passwd', os.path.join(intents, '5-1.json'))
    write(os.path.join(repository.common, 'drover', 'worktrees', '2.json'), 'x')
    repository.prepare(2)
    assert len(os.listdir(intents)) == 4 and all(name.endswith('.corrupt') for name in os.listdir(intents))
    shutil.rmtree(intents)
    os.unlink(os.path.join(repository.common, 'drover', 'worktrees', '2.json.corrupt'))


# ---- when the answer was lost ----

def test_collect_of_what_prepare_never_told(repository):
    made = repository.prepare(1, name='fix')
    write(os.path.join(made['path'], 'new'), 'n\n')
    request = dict(repository.request(1), path=None, branch=None, is_again=True)
    assert repository.good('collect', request)['salvage'] == 'refs/drover/salvage/1-1'
    assert repository.worktrees() == [] and repository.admins() == []


def test_collect_of_what_never_was(repository):
    request = dict(repository.request(1), path=None, branch=None)
    done = repository.bad('collect', request, 'worktree-missing', 'attempt 1 of task 1')
    assert done['branch'] is None and done['commit'] is None and done['is_missing']
    repository.prepare(1, attempt=2)
    repository.bad('collect', request, 'worktree-missing')
    assert repository.worktrees() == ['1']


# ---- kill -9 ----

PREPARE_PLACES = ['intent_worktree_written', 'branch_created', 'worktree_added', 'worktree_checked_out']
COLLECT_PLACES = ['collect_started', 'committed_not_placed', 'work_saved', 'worktree_remove_intent', 'worktree_half_removed',
                  'worktree_removed']


def kill_at_place(repository, verb, request, place):
    done, _ = repository.call(verb, request, env={'DROVER_FAIL': place})
    if done.returncode == 0:
        pytest.skip('this build has no failpoints: the named places of kill -9 are not tested')
    assert done.returncode == -signal.SIGKILL and done.stdout == ''


@pytest.mark.parametrize('place', PREPARE_PLACES)
@pytest.mark.parametrize('then', ['repeat', 'other', 'collect'])
def test_prepare_killed_at_a_place(repository, place, then):
    kill_at_place(repository, 'prepare', repository.request(1, name='fix'), place)
    if then == 'repeat':
        assert repository.prepare(1, name='fix')['branch'] == 'parallel/fix'
        assert repository.admins() == ['fix']
    elif then == 'other':
        repository.prepare(2)
        assert repository.worktrees() == repository.admins() == ['2'] and repository.branches() == ['parallel/2']
    else:
        request = dict(repository.request(1), path=None, branch=None)
        repository.bad('collect', request, 'worktree-missing')
        assert repository.worktrees() == repository.admins() == repository.branches() == []


@pytest.mark.parametrize('place', COLLECT_PLACES)
@pytest.mark.parametrize('then', ['repeat', 'other'])
def test_collect_killed_at_a_place(repository, place, then):
    made = repository.prepare(1, name='fix')
    write(os.path.join(made['path'], 'new'), 'n\n')
    kill_at_place(repository, 'collect', repository.collect_request(1, made), place)
    if then == 'other':
        # Takes the place that the killed one's directory had, if that is gone: it must not be taken for it.
        other = repository.prepare(2, name='fix')
        write(os.path.join(other['path'], 'mine'), 'm\n')
    done = repository.collect(1, made)
    assert done['is_removed'] and done['changed_files'] == 1
    assert repository.git('show', 'parallel/fix:new') == 'n'
    if then == 'other':
        assert read(os.path.join(other['path'], 'mine')) == 'm\n'
        assert git('rev-parse', 'HEAD', cwd=other['path']) == repository.base
    else:
        assert repository.worktrees() == repository.admins() == []
    assert repository.git('rev-list', '--count', f'{repository.base}..parallel/fix') == '1'

NO_LEAK_CHECK = {'ASAN_OPTIONS': 'detect_leaks=0'}  # it cannot be done under strace
needs_strace = pytest.mark.skipif(not STRACE, reason='strace is not installed: kill -9 at each call is not tested')


@needs_strace
def test_an_intent_read_before_its_helper_finished_is_not_undone(repository):
    """One helper reads another's intent, waits, and gets the lock because that one has finished: it was not killed."""
    admin = os.path.join(repository.common, 'worktrees', '1')

    def slowly():  # each git starts late, so that the checkout, done without the repository's lock, takes a while
        return repository.good('prepare', repository.request(1), env=NO_LEAK_CHECK, before=[
            STRACE, '-f', '-qq', '-o', '/dev/null', '-e', 'trace=execve', '-e', 'inject=execve:delay_enter=700000:when=1'])
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        first = pool.submit(slowly)
        harness.wait_until(lambda: os.path.exists(admin), 30, 'the first has its admin directory')
        # The fifth lock is that of the other's task, after its intent was read.
        repository.good('prepare', repository.request(2), env=NO_LEAK_CHECK, before=[
            STRACE, '-qq', '-o', '/dev/null', '-e', 'trace=fcntl', '-e', 'inject=fcntl:delay_enter=1500000:when=5'])
        made = first.result()
    assert sorted(os.listdir(made['path'])) == ['.git', 'README', 'src']
    assert repository.admins() == ['1', '2'] and repository.residue() == []
