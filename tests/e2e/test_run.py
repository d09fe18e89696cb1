"""drover run with commands: output, exit status, values, standard input, environment. DESIGN 6.1."""
import json
import os
import signal

import pytest

import harness


def test_output_in_order_and_exit_status_pass_through(drover):
    done = drover.run('run', '--', 'sh', '-c', 'echo one; echo two >&2; echo three; exit 7')
    assert done.stdout == 'one\ntwo\nthree\n'
    assert done.returncode == 7


def test_success_is_status_0_and_output_is_exact(drover):
    done = drover.run('run', '--', 'printf', 'no newline', text=False)
    assert (done.returncode, done.stdout) == (0, b'no newline')


def test_binary_output_is_kept_byte_by_byte(drover):
    done = drover.run('run', '--', 'printf', r'\000\001\377\033[2J\n', text=False)
    assert done.returncode == 0
    assert drover.log(1) == b'\x00\x01\xff\x1b[2J\n'


def test_a_signal_is_shown_as_shells_do(drover):
    done = drover.run('run', '--', 'sh', '-c', 'kill -SEGV $$')
    assert done.returncode == 128 + signal.SIGSEGV
    task = drover.task(1)
    assert (task['state'], task['signal'], task['exit_code']) == ('failed', 'SIGSEGV', None)
    assert 'signal SIGSEGV' in task['cause']


def test_words_are_an_argv_without_a_shell(drover):
    assert drover.good('run', '--', 'echo', '$HOME', 'a  b', '*', "it's", ';', '') == "$HOME a  b * it's ; \n"


def test_one_text_with_blanks_is_for_a_shell(drover):
    assert drover.good('run', 'echo $((1 + 2)) | tr 3 x') == 'x\n'


def test_values_in_order_with_k(drover):
    assert drover.good('run', '-k', '-j', 4, 'echo', 'x{}y', ':::', 'a', 'b c', 'd') == 'xay\nxb cy\nxdy\n'


def test_values_go_behind_without_placeholder(drover):
    assert drover.good('run', '-k', 'echo', 'v', ':::', 'a', 'b') == 'v a\nv b\n'


def test_templates(drover):
    assert drover.good('run', '-k', 'echo', '{#}', '{}', '{.}', '{/}', ':::', 'd/a.txt', 'e/b.tar.gz') == \
        '1 d/a.txt d/a a.txt\n2 e/b.tar.gz e/b.tar b.tar.gz\n'


def test_values_are_quoted_for_a_shell(drover):
    out = drover.good('run', '-k', 'printf "%s\\n" {} | cat', ':::', 'a  b', "it's", '$(touch pwned)', 'x;y', '*')
    assert out == "a  b\nit's\n$(touch pwned)\nx;y\n*\n"
    assert os.listdir(drover.work) == []


def test_values_from_a_file(drover):
    harness.write(os.path.join(drover.work, 'values'), 'one\ntwo words\n')
    assert drover.good('run', '-k', '-a', 'values', 'echo', '[{}]') == '[one]\n[two words]\n'


def test_values_from_standard_input(drover):
    assert drover.good('run', '-k', '-a', '-', 'echo', '[{}]', input='a\nb\n') == '[a]\n[b]\n'
    assert drover.good('run', '-k', 'echo', '<{}>', input='c\nd\n') == '<c>\n<d>\n'


def test_standard_input_is_nothing_otherwise(drover):
    """No placeholder: exactly one task, and what is piped in does not reach it."""
    assert drover.good('run', '--', 'wc', '-c', input='abc\n').strip() == '0'
    assert len(drover.tasks()) == 1


def test_status_1_when_one_of_several_fails(drover):
    done = drover.run('run', '-k', 'sh', '-c', 'exit {}', ':::', '0', '3', '0')
    assert done.returncode == 1
    assert [task['state'] for task in drover.tasks()] == ['succeeded', 'failed', 'succeeded']


def test_environment_is_the_clients(drover):
    out = drover.good('run', '--', 'sh', '-c', 'printf "%s\\n" "$COLOUR" "$PARALLEL_TASK_ID"',
                      env={'COLOUR': 'deep blue\nsea'})
    assert out == 'deep blue\nsea\n1\n'


def test_environment_options(drover):
    drover.start()
    assert drover.good('run', '--env', 'COLOUR=red', '--', 'sh', '-c', 'echo $COLOUR', env={'COLOUR': 'blue'}) == 'red\n'
    assert drover.good('run', '--clean-env', '--', 'sh', '-c', 'echo "${COLOUR-unset}"', env={'COLOUR': 'blue'}) == 'unset\n'


def test_environment_is_that_of_each_submission_not_the_daemons(drover):
    drover.good('run', '--', 'true', env={'WHO': 'first'})
    assert drover.good('run', '--', 'sh', '-c', 'echo $WHO', env={'WHO': 'second'}) == 'second\n'


def test_git_variables_are_left_out(drover):
    ours = {'GIT_DIR': '/nowhere', 'GIT_INDEX_FILE': '/nowhere/index', 'GITHUB_X': 'kept'}
    out = drover.good('run', '--', 'env', env=ours)
    assert 'GIT_DIR=' not in out and 'GIT_INDEX_FILE=' not in out
    assert 'GITHUB_X=kept' in out


def test_umask_and_directory_are_the_clients(drover):
    below = os.path.join(drover.work, 'below')
    os.mkdir(below)
    out = drover.good('run', '--', 'sh', '-c', 'umask; pwd', cwd=below,
                      before=('sh', '-c', 'umask 027; exec "$@"', 'sh'))
    assert out == f'0027\n{below}\n'
    assert drover.good('run', '--cwd', below, '--', 'pwd') == below + '\n'


def test_the_environment_is_kept_where_only_the_owner_reads(drover):
    drover.good('run', '--', 'true', env={'CANARY': 'secret-4711'})
    for folder, _, names in os.walk(drover.state):
        assert os.stat(folder).st_mode & 0o077 == 0
        for name in names:
            path = os.path.join(folder, name)
            if not os.path.isfile(path):
                continue
            assert os.stat(path).st_mode & 0o077 == 0, path
            with open(path, 'rb') as file:
                assert b'secret-4711' not in file.read() or os.path.basename(folder) == 'env', path


def test_many_values(drover):
    out = drover.good('run', '-k', '-j', 8, 'echo', ':::', *range(300))
    assert out == ''.join(f'{number}\n' for number in range(300))


def test_json_of_run(drover):
    done = drover.run('run', '--json', 'sh', '-c', 'exit {}', ':::', '0', '1')
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 1
    assert [row['exit_code'] for row in sorted(rows[:-1], key=lambda row: row['task'])] == [0, 1]
    assert (rows[-1]['tasks'], rows[-1]['succeeded'], rows[-1]['failed']) == (2, 1, 1)


def test_names(drover):
    drover.good('run', '--name', 'first', '--', 'true')
    assert drover.task('first')['id'] == 1
    drover.bad(2, 'run', '--name', '-x', '--', 'true', says='name')
    drover.bad(2, 'run', '--name', '12', '--', 'true', says='12')


def test_interrupt_once_starts_nothing_new(drover):
    gate = drover.gate()
    client = drover.popen('run', '-j', 1, 'sh', '-c', f'{gate.wait}; echo {{}} >> order', ':::', 'a', 'b', 'c')
    drover.wait_state(1, 'running')
    client.send_signal(signal.SIGINT)
    harness.wait_until(lambda: 'queued' not in [task['state'] for task in drover.tasks()], 20, 'no task waits any more')
    gate.open()
    client.communicate(timeout=30)
    assert client.returncode == 130
    assert harness.read(os.path.join(drover.work, 'order')) == 'a\n'


def test_interrupt_once_tries_nothing_again(drover):
    gate = drover.gate()
    effect = os.path.join(drover.work, 'effect')
    process = drover.popen('run', '--retries', 5, '--retry-delay', '10ms', f'echo x >> {effect}; {gate.wait}; exit 3')
    harness.wait_until(lambda: os.path.exists(effect), 20, 'it runs')
    process.send_signal(signal.SIGINT)
    harness.wait_until(lambda: b'nothing more' in os.read(process.stderr.fileno(), 4096), 20, 'the client has heard it')
    gate.open()
    process.communicate(timeout=30)
    drover.started.remove(process)
    assert process.returncode == 130
    done = drover.wait_final(1)
    assert (done['state'], done['cause'], done['attempt']) == ('failed', 'exit 3', 1)
    assert len(harness.read(effect).split()) == 1


def test_interrupt_twice_cancels(drover):
    client = drover.popen('run', '--', 'sleep', '1000')
    drover.wait_state(1, 'running')
    client.send_signal(signal.SIGINT)
    client.send_signal(signal.SIGINT)
    harness.wait_until(lambda: client.poll() is not None or client.send_signal(signal.SIGINT), 20, 'the client ended')
    assert client.returncode == 130
    assert drover.wait_final(1)['state'] == 'cancelled'


def test_tasks_outlive_their_client(drover):
    gate = drover.gate()
    client = drover.popen('run', '--', 'sh', '-c', f'{gate.wait}; echo done')
    drover.wait_state(1, 'running')
    client.kill()
    client.communicate()
    gate.open()
    assert drover.wait_final(1)['state'] == 'succeeded'
    assert drover.log(1) == b'done\n'


def test_split_output(drover):
    task = drover.add('--split-output', '--', 'sh', '-c', 'echo out; echo err >&2')[0]
    drover.wait_final(task)
    path = drover.task(task)['log_path']
    assert harness.read(path) == 'out\n'
    assert harness.read(path + '.err') == 'err\n'


def test_add_wait_ls_logs(drover):
    first, second = drover.add('sh', '-c', 'echo task {}; exit {}', ':::', '0', '5')
    assert drover.run('wait', first).returncode == 0
    assert drover.run('wait', second).returncode == 1
    assert drover.run('wait', '--all').returncode in (0, 1)
    assert drover.good('logs', second) == 'task 5\n'
    tasks = drover.tasks()
    assert [task['id'] for task in tasks] == [first, second]
    assert tasks[1]['cause'] == 'exit 5' and tasks[1]['exit_code'] == 5
    assert tasks[0]['started_at'].endswith('Z') and tasks[0]['duration_s'] >= 0
    assert str(first) in drover.good('ls', '--all') and 'succeeded' in drover.good('ls', '--all')


def test_logs_follow_to_the_end(drover):
    gate = drover.gate()
    task = drover.shell(f'echo begin; {gate.wait}; echo end')
    drover.wait_state(task, 'running')
    follower = drover.popen('logs', '-f', task)
    assert follower.stdout.readline() == b'begin\n'
    gate.open()
    assert follower.communicate(timeout=30)[0] == b'end\n'
    assert follower.returncode == 0


def test_a_daemon_is_not_started_from_inside_a_task(drover):
    drover.bad(3, 'run', '--', 'true', env={'PARALLEL_TASK_ID': '1'}, says='daemon')
    assert drover.count_running('drover-daemon') == 0


@pytest.mark.parametrize('arguments, words', [
    (['frobnicate'], ['frobnicate']),
    (['statsu'], ['statsu', 'status']),
    (['run', '--frobnicate', 'x'], ['--frobnicate']),
    (['run', '--nmae', 'x', 'true'], ['--nmae', '--name']),
    (['run'], ['run']),
    (['run', '-j', 'many', 'true'], ['many']),
    (['run', '-f', 'absent.yaml'], ['absent.yaml']),
    (['run', '-a', 'absent', 'echo'], ['absent']),
    (['show', '4711'], ['4711']),
    (['cancel', 'nobody'], ['nobody']),
    (['logs', '4711'], ['4711']),
    (['wait', '4711'], ['4711']),
])
def test_bad_usage(drover, arguments, words):
    drover.bad(2, *arguments, says=words)


def test_every_command_has_help(drover):
    assert 'run' in drover.good('--help')
    for command in ('run', 'add', 'ls', 'show', 'why', 'logs', 'wait', 'cancel', 'retry', 'status', 'daemon', 'clean',
                    'doctor', 'version'):
        assert 'usage' in drover.good(command, '--help').lower(), command
    assert drover.count_running('drover-daemon') == 0


def test_output_to_a_closed_pipe_is_no_disaster(drover):
    """`drover run … | head -1`: the client ends, the task goes on to its end."""
    client = drover.popen('run', '--', 'sh', '-c', 'seq 100000; echo $? > status')
    assert client.stdout.readline() == b'1\n'
    client.stdout.close()
    client.wait(timeout=30)
    client.stdout = None
    assert drover.wait_final(1)['state'] == 'succeeded'
    assert harness.read(os.path.join(drover.work, 'status')) == '0\n'


def test_concurrency_limit_holds(drover):
    """Three at once, never four: each task counts those beside it by the locks they hold."""
    script = 'mkdir running.$PARALLEL_TASK_ID; ls -d running.* | wc -l >> counts; echo go; rmdir running.$PARALLEL_TASK_ID'
    drover.good('run', '-j', 3, 'sh', '-c', f'{script} # {{}}', ':::', *range(40))
    counts = [int(line) for line in harness.read(os.path.join(drover.work, 'counts')).split()]
    assert len(counts) == 40 and max(counts) <= 3


def test_why_names_what_is_waited_for(drover):
    gate = drover.gate()
    first = drover.shell(gate.wait)
    second = drover.add('--after', str(first), '--', 'true')[0]
    drover.wait_state(first, 'running')
    why = drover.good('why', second)
    assert f'#{first}' in why
    assert drover.json('why', second)['wait']['reason'] == 'dependency'
    gate.open()
    assert drover.wait_final(second)['state'] == 'succeeded'
    assert 'exit 0' in drover.good('why', second)


def test_clean_forgets_finished_tasks_and_logs(drover):
    task = drover.add('--', 'echo', 'x')[0]
    path = drover.wait_final(task)['log_path']
    assert os.path.exists(path)
    drover.good('clean', '--all')
    drover.bad(2, 'show', task, says=str(task))
    harness.wait_until(lambda: not os.path.exists(path), 10, 'the log is removed')
    assert drover.add('--', 'true')[0] > task  # ids are never used again


def test_a_quoted_newline_in_a_name_or_value_does_no_harm(drover):
    assert drover.good('run', '-k', 'printf', '[%s]', ':::', 'a\nb') == '[a\nb]'
