"""Every mistake that the checks know, planted in a student's function: its words must come out, and no others."""

import itertools

import numpy as np
import pytest

from nnlib import CheckFailed, checks

PLANTED = [
    pytest.param(check, place, number, id=f"{check.__name__}-{task.name}-{number}-{mistake.words[:40]}")
    for check, tasks in checks.TASKS.items()
    for place, task in enumerate(tasks)
    for number, mistake in enumerate(task.mistakes)
]


def right_functions(check):
    return [task.right for task in checks.TASKS[check]]


@pytest.mark.parametrize("check, place, number", PLANTED)
def test_each_mistake_is_named(check, place, number):
    functions, task = right_functions(check), checks.TASKS[check][place]
    functions[place] = task.with_mistake(task.mistakes[number])
    with pytest.raises(CheckFailed) as failure:
        check(*functions)
    message = str(failure.value)
    assert message.startswith(task.name) and message.endswith(f": {task.mistakes[number].words}. {checks.SEE}")
    result = message.partition(": ")[2].split()[0]
    assert result in task.results and task.mistakes[number].result in ("all", result)


def test_every_check_has_its_mistakes():
    assert {check.__name__ for check in checks.TASKS} == set(checks.__all__) - {"SEE", "CheckFailed", "gradient"}
    assert all(task.mistakes for tasks in checks.TASKS.values() for task in tasks)


def inputs_of(check, place):
    """All inputs on which a check tries a function."""
    functions, calls = right_functions(check), []
    right = functions[place]

    def recorded(*arguments):
        calls.append([a.copy() if isinstance(a, np.ndarray) else a for a in arguments])
        return right(*arguments)

    functions[place] = recorded
    check(*functions)
    return calls[::2]  # each is called twice


@pytest.mark.parametrize(
    "check, place", [(check, place) for check, tasks in checks.TASKS.items() for place in range(len(tasks))]
)
def test_no_two_mistakes_are_the_same(check, place):
    task = checks.TASKS[check][place]
    calls = inputs_of(check, place)

    def everything(mistake):
        outcomes = []
        for arguments in calls:
            named = dict(zip(map(str, range(len(arguments))), arguments, strict=True))
            try:
                outcome = task.run(task.with_mistake(mistake), named)
                outcomes.append([outcome[name] for name in task.results if mistake.result in ("all", name)])
            except Exception as error:
                outcomes.append(str(error))
        return outcomes

    outcomes = [(mistake, everything(mistake)) for mistake in task.mistakes]
    for (one, first), (other, second) in itertools.combinations(outcomes, 2):
        if one.result != other.result:
            continue
        alike = all(
            a == b
            if isinstance(a, str) or isinstance(b, str)
            else all(x.shape == y.shape and np.allclose(x, y, 1e-6, 1e-9, True) for x, y in zip(a, b, strict=True))
            for a, b in zip(first, second, strict=True)
        )
        assert not alike, (one.words, other.words)
