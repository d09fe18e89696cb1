"""What is forgotten by itself, and when."""
import os

import harness


def test_finished_tasks_are_kept_as_many_as_configured(drover):
    folder = os.path.join(drover.environment['HOME'], '.config', 'drover')
    os.makedirs(folder)
    harness.write(os.path.join(folder, 'config.yaml'), 'keep:\n  tasks: 5\n')
    drover.good('run', 'echo', ':::', *range(20))
    harness.wait_until(lambda: len(drover.tasks()) == 5, 40, 'five tasks are left')
    assert [task['id'] for task in drover.tasks()] == [16, 17, 18, 19, 20]
    logs = [name for _, _, names in os.walk(os.path.join(drover.state, 'logs')) for name in names]
    assert sorted(logs) == [f'{number}.1.log' for number in range(16, 21)]
    assert drover.add('true') == [21]
