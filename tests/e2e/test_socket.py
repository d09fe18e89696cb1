"""Where the daemon listens, who may come, and what may be in the way there. FAULTS 56; DESIGN 6.2."""
import os
import shutil
import socket
import stat

import pytest

import harness

NOBODY = 65534


@pytest.fixture
def plain(make_drover):
    """A drover whose state directory is not chosen by DROVER_STATE_DIR, so that the socket is in XDG_RUNTIME_DIR."""
    drover = make_drover()
    drover.environment['XDG_STATE_HOME'] = os.path.join(drover.folder, 'xdg')
    os.mkdir(drover.environment['XDG_STATE_HOME'], 0o700)
    drover.mark = drover.environment.pop('DROVER_STATE_DIR')
    drover.state = os.path.join(drover.folder, 'xdg', 'drover')
    drover.runtime = drover.environment['XDG_RUNTIME_DIR']
    yield drover
    drover.run('daemon', 'stop', '--stop-tasks')
    wait_ended(drover)


def wait_ended(drover):
    """No process of ours has anything of the folder open as its socket or executable's argument."""
    def is_over():
        return not [name for name in os.listdir('/proc') if name.isdigit() and
                    drover.state.encode() in harness.read_proc(name, 'cmdline') and harness.is_running(int(name))]
    harness.wait_until(is_over, 20, 'all of it has ended')


def works(drover, **more):
    assert drover.good('run', '--', 'echo', 'works', **more) == 'works\n'


def socket_of(drover):
    return drover.json('daemon', 'status')['socket']


def as_nobody(function):
    """What function() returned as true or false in a process of another user."""
    pid = os.fork()
    if pid == 0:
        status = 2
        try:
            os.setgroups([])
            os.setresgid(NOBODY, NOBODY, NOBODY)
            os.setresuid(NOBODY, NOBODY, NOBODY)
            status = 0 if function() else 1
        finally:
            os._exit(status)
    _, status = os.waitpid(pid, 0)
    code = os.waitstatus_to_exitcode(status)
    assert code in (0, 1), 'the other user met an exception'
    return code == 0


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason='only root can become another user')


# -- other users -------------------------------------------------------------------------------------------------------

@needs_root
def test_another_user_cannot_reach_the_socket(drover):
    drover.start()
    path = socket_of(drover)

    def is_refused():
        with socket.socket(socket.AF_UNIX) as link:
            try:
                link.connect(path)
            except PermissionError:
                return True
        return False
    assert as_nobody(is_refused)


@needs_root
def test_another_user_is_refused_without_a_word(drover):
    """Though somebody opened directory and socket to all: the peer's uid counts. The log is told once."""
    drover.start()
    path = socket_of(drover)
    for folder in (drover.folder, drover.state, os.path.dirname(path)):
        os.chmod(folder, 0o711)
    os.chmod(path, 0o666)

    def is_refused():
        for _ in range(5):
            with socket.socket(socket.AF_UNIX) as link:
                link.connect(path)
                link.settimeout(10)
                try:
                    link.sendall(b'{"jsonrpc":"2.0","id":1,"method":"hello","params":{"protocol":1}}\n')
                    if link.recv(1000) != b'':
                        return False
                except (BrokenPipeError, ConnectionResetError):
                    pass
        return True
    assert as_nobody(is_refused)
    works(drover)
    assert drover.daemon_log().count('another user') == 1


@needs_root
def test_a_state_directory_of_another_user(drover):
    """sudo keeps HOME: root must not begin to write into the user's state."""
    os.chown(drover.state, NOBODY, NOBODY)
    drover.bad(3, 'run', '--', 'true', says=[drover.state, 'belongs', 'DROVER_STATE_DIR'])
    assert os.listdir(drover.state) == [] or all(os.stat(os.path.join(drover.state, name)).st_size < 4096
                                                 for name in os.listdir(drover.state))


def test_modes_do_not_come_from_the_umask(drover):
    works(drover, before=['sh', '-c', 'umask 0; exec "$@"', 'sh'])
    path = socket_of(drover)
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    assert stat.S_IMODE(os.stat(os.path.dirname(path)).st_mode) == 0o700
    for folder, _, names in os.walk(drover.state):
        for name in names:
            mode = os.lstat(os.path.join(folder, name)).st_mode
            assert not stat.S_IMODE(mode) & 0o077, f'{name} has mode {mode:o}'


# -- the runtime directory ---------------------------------------------------------------------------------------------

def test_the_runtime_directory_is_used(plain):
    works(plain)
    assert socket_of(plain) == os.path.join(plain.runtime, 'drover', 'daemon.sock')


def unset(drover):
    del drover.environment['XDG_RUNTIME_DIR']


def missing(drover):
    os.rmdir(drover.runtime)


def plain_file(drover):
    os.rmdir(drover.runtime)
    harness.write(drover.runtime, '')


def open_to_all(drover):
    os.chmod(drover.runtime, 0o777)


def of_another(drover):
    if os.geteuid() != 0:
        pytest.skip('only root can give a directory away')
    os.chown(drover.runtime, NOBODY, NOBODY)


def dangling(drover):
    os.rmdir(drover.runtime)
    os.symlink('/nowhere/at/all', drover.runtime)


def relative(drover):
    drover.environment['XDG_RUNTIME_DIR'] = 'runtime'


@pytest.mark.parametrize('spoil', [unset, missing, plain_file, open_to_all, of_another, dangling, relative])
def test_without_a_runtime_directory_of_our_own(plain, spoil):
    """Then the state directory serves, never /tmp; and who has the variable, or not, finds the same daemon."""
    spoil(plain)
    works(plain)
    assert socket_of(plain) == os.path.join(plain.state, 'run', 'daemon.sock')
    pid = plain.daemon_pid()
    plain.environment['XDG_RUNTIME_DIR'] = os.path.join(plain.folder, 'another')
    os.mkdir(plain.environment['XDG_RUNTIME_DIR'], 0o700)
    assert plain.daemon_pid() == pid


def test_a_runtime_directory_behind_a_link(plain):
    """/run and homes are links on some systems."""
    os.rename(plain.runtime, plain.runtime + '.real')
    os.symlink(plain.runtime + '.real', plain.runtime)
    works(plain)
    assert os.path.exists(os.path.join(plain.runtime + '.real', 'drover', 'daemon.sock'))


def test_surroundings_of_cron(plain):
    """Only HOME and a short PATH; the daemon that a login shell started is found."""
    works(plain)
    pid = plain.daemon_pid()
    bare = {name: None for name in plain.environment if name.startswith(('XDG_RUNTIME', 'LC_', 'TMPDIR'))}
    assert plain.json('daemon', 'status', env=bare)['pid'] == pid
    works(plain, env=bare)


def test_surroundings_without_a_home(make_drover):
    drover = make_drover()
    bare = {name: None for name in ('HOME', 'XDG_STATE_HOME', 'XDG_RUNTIME_DIR', 'DROVER_STATE_DIR')}
    drover.bad(3, 'ls', env=bare, says=['HOME', 'set one of them'])
    works(drover, env=dict(bare, DROVER_STATE_DIR=drover.state))  # that is enough


# -- what is in the way ------------------------------------------------------------------------------------------------

def make_file(path):
    harness.write(path, 'somebody keeps this here\n')


def make_folder(path):
    os.mkdir(path)


def make_link(path):
    harness.write(path + '.target', 'precious\n')
    os.symlink(path + '.target', path)


def make_dangling(path):
    os.symlink('/nowhere/at/all', path)


def make_fifo(path):
    os.mkfifo(path)


@pytest.mark.parametrize('make', [make_file, make_folder, make_link, make_dangling, make_fifo])
def test_something_else_where_the_socket_must_be(drover, make):
    """It is named and left alone; when it is gone the next client starts the daemon."""
    folder = os.path.join(drover.state, 'run')
    path = os.path.join(folder, 'daemon.sock')
    os.mkdir(folder, 0o700)
    make(path)
    before = os.lstat(path)
    said = drover.bad(3, 'ls', says=[path, 'no socket', 'remove it'])
    assert said.count('\n') <= 3, said
    assert os.lstat(path).st_ino == before.st_ino
    if make is make_link:
        assert harness.read(path + '.target') == 'precious\n'
    if os.path.isdir(path) and not os.path.islink(path):
        os.rmdir(path)
    else:
        os.unlink(path)
    works(drover)


@pytest.mark.parametrize('make', [make_file, make_link, make_dangling])
def test_something_else_where_its_directory_must_be(drover, make):
    path = os.path.join(drover.state, 'run')
    make(path)
    drover.bad(3, 'ls', says=[path, 'must be a directory'])
    os.unlink(path)
    works(drover)


def test_a_directory_open_to_others(drover):
    path = os.path.join(drover.state, 'run')
    os.mkdir(path)
    os.chmod(path, 0o777)
    drover.bad(3, 'ls', says=[path, '700'])
    os.chmod(path, 0o755)  # readable is mended, writable was not ours to judge
    works(drover)
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o700


def test_a_socket_that_somebody_listens_on(drover):
    """In our directory, without the lock: whoever it is, it is not the daemon."""
    folder = os.path.join(drover.state, 'run')
    os.mkdir(folder, 0o700)
    with socket.socket(socket.AF_UNIX) as squatter:
        squatter.bind(os.path.join(folder, 'daemon.sock'))
        squatter.listen(8)
        works(drover)
        squatter.setblocking(False)
        with pytest.raises(BlockingIOError):
            squatter.accept()


# -- paths -------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize('length', [107, 108, 109, 150, 460])
def test_paths_longer_than_an_address(drover, length):
    """An address holds 108 bytes of path."""
    folder = drover.folder
    while len(folder) + 1 < length - len('/run/daemon.sock'):
        room = length - len('/run/daemon.sock') - len(folder) - 1
        folder = os.path.join(folder, 'd' * min(room, 200))
        os.mkdir(folder, 0o700)
    drover.environment['DROVER_STATE_DIR'] = drover.state = folder
    works(drover)
    assert len(socket_of(drover)) == max(length, len(drover.folder) + len('/run/daemon.sock'))
    pid = drover.daemon_pid()
    drover.kill_daemon()
    drover.wait_daemon(other_than=pid)
    works(drover)


def test_a_path_that_is_no_path_any_more(drover):
    """SQLite takes no more than 512 bytes; said before anything is made."""
    for path in ('/' + 'x' * 5000, drover.state + '/' + '/'.join(['d' * 100] * 39), drover.state + '/' + 'd' * 250 * 2):
        drover.environment['DROVER_STATE_DIR'] = path
        for command in (['ls'], ['run', '--', 'true'], ['daemon', 'start']):
            drover.bad(3, *command, says=['too long', '450', 'DROVER_STATE_DIR'])
    drover.environment['DROVER_STATE_DIR'] = drover.state
    assert os.listdir(drover.state) == []


def test_a_state_directory_behind_links(drover):
    """By whichever name it is called, it is one directory with one daemon."""
    names = [drover.state]
    for name in ('link', 'way/link'):
        path = os.path.join(drover.folder, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        os.symlink(names[-1], path)
        names.append(path)
    pids = set()
    for name in reversed(names):
        works(drover, env={'DROVER_STATE_DIR': name})
        pids.add(drover.json('daemon', 'status', env={'DROVER_STATE_DIR': name})['pid'])
    assert len(pids) == 1


# -- a socket that is lost ---------------------------------------------------------------------------------------------

def remove_folder(path):
    shutil.rmtree(os.path.dirname(path))


def replace_by_file(path):
    os.unlink(path)
    harness.write(path, '')


def move_away(path):
    os.rename(path, path + '.away')


def move_folder_away(path):
    os.rename(os.path.dirname(path), os.path.dirname(path) + '.away')


@pytest.mark.limit(90)
@pytest.mark.parametrize('lose', [os.unlink, remove_folder, move_away, move_folder_away])
def test_a_lost_socket_is_made_again(drover, lose):
    """Connections that are there go on; the same daemon is found again, and no second one is started meanwhile."""
    pid = drover.start()
    path = socket_of(drover)
    raw = drover.connect()
    lose(path)
    assert raw.call('status')['queued'] == 0
    works(drover)  # waits for it
    assert (drover.daemon_pid(), drover.count_running('drover-daemon')) == (pid, 1)
    assert raw.call('status')['queued'] == 0
    raw.close()


@pytest.mark.limit(90)
def test_something_else_where_the_socket_was(drover):
    """It is not removed, since it is none of ours; the log says why nobody can connect, and it is made again afterwards."""
    pid = drover.start()
    path = socket_of(drover)
    replace_by_file(path)
    harness.wait_until(lambda: 'is no socket; remove it' in drover.daemon_log(), 20)
    assert os.path.isfile(path)
    os.unlink(path)
    harness.wait_until(lambda: 'there again' in drover.daemon_log(), 20)
    assert drover.daemon_log().count('is no socket; remove it') == 1, 'it is told once'
    works(drover)
    assert drover.daemon_pid() == pid


@pytest.mark.limit(90)
def test_a_socket_that_was_taken_over(drover):
    """Somebody of ours renames a socket of his over the daemon's: the daemon takes its place back."""
    pid = drover.start()
    path = socket_of(drover)
    with socket.socket(socket.AF_UNIX) as squatter:
        squatter.bind(path + '.new')
        squatter.listen(64)
        inode = os.stat(path + '.new').st_ino
        os.rename(path + '.new', path)
        harness.wait_until(lambda: os.path.exists(path) and os.stat(path).st_ino != inode, 20, 'the socket is ours again')
        works(drover)
        assert drover.daemon_pid() == pid
