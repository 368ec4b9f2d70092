"""Whether a run may continue from a checkpoint: of the same settings and data, after fewer updates than the run has."""

from __future__ import annotations

from typing import Any

from .._deprecated import deprecated_names
from ..validation import shown
from .checkpoint import SUMS, Progress
from .config import TrainConfig
from .run import RunFolder
from .task import Task
from .workers import Workers

__all__ = ['check_arguments', 'check_checkpoint', 'run_arguments']

# Schedules whose rates do not depend on the number of epochs that follow.
OPEN_ENDED = ('constant', 'step')


def run_arguments(config: TrainConfig, workers: Workers, data: dict | None = None) -> dict[str, Any]:
    """What a run's results depend on, by name, as its checkpoints hold it.

    Parameters
    ----------
    config : TrainConfig
    workers : Workers
    data : dict, optional
        From :func:`gluon_aff.data.fingerprint.identity`.
    """
    return {**config.arguments(), 'workers': workers.size, **(data or {})}


def check_arguments(saved: dict, current: dict, path: str) -> None:
    """Raise a ValueError that names the differences between a checkpoint's run and this one.

    The number of epochs may differ where the learning rates do not depend on it.

    Parameters
    ----------
    saved, current : dict
        From :func:`run_arguments`.
    path : str
        Of the checkpoint.
    """
    if 'classes' in saved and 'classes' in current:
        difference = _other_data(saved, current)
        if difference:
            raise ValueError(
                f'{path} is from a run on another data set ({difference}); name the same one, which '
                'may have moved, or start another run in another --save-dir.'
            )
    names = sorted({*saved, *current} - {'classes', 'images'})
    unlike = [name for name in names if saved.get(name) != current.get(name)]
    if unlike == ['num_epochs'] and type(saved.get('num_epochs')) is int:
        obstacle = _obstacle(saved)
        if not obstacle:
            return
        raise ValueError(
            f'{path} is from a run with --num-epochs {saved["num_epochs"]}, which cannot become '
            f'{current["num_epochs"]}, as {obstacle}; start another run, in another --save-dir, from its '
            'best.params (--use-pretrained) where the script takes them.'
        )
    if unlike:
        differences = '; '.join(
            f'{_flag(name)[:80]} was {_as_typed(saved.get(name))} and is {_as_typed(current.get(name))}'
            for name in unlike[:9]
        )
        raise ValueError(
            f'{path} is from a run with other arguments ({differences}); resume with the same, or start '
            'another run in another --save-dir.'
        )


def _as_typed(value):
    return shown(int(value) if isinstance(value, float) and value.is_integer() else value)


def _other_data(saved, current):
    before, now = saved['classes'], current['classes']
    if not isinstance(before, list) or len(before) != len(now):
        return f'the number of its classes was {len(before) if isinstance(before, list) else None} and is {len(now)}'
    for number, (old, new) in enumerate(zip(before, now)):
        if old != new:
            return f'its class {number} was {shown(old)} and is {shown(new)}'
    return '' if saved.get('images') == current.get('images') else 'the list of its images has changed'


def _obstacle(saved):
    """Why a longer run would have gone otherwise so far; '' if it would not."""
    mode, epochs = saved.get('lr_mode'), saved['num_epochs']
    period, decays = saved.get('lr_decay_period'), saved.get('lr_decay_epoch') or ()
    if mode not in OPEN_ENDED:
        return f'--lr-mode {mode} ends with the last epoch'
    if mode == 'step' and (epochs % period == 0 if period else epochs in decays):
        return f'--lr-mode step decays at epoch {epochs}'
    if saved.get('warmup_epochs', 0) >= epochs:
        return 'its warm-up was shortened'
    if (saved.get('mixup') or saved.get('cutmix')) and saved.get('mixup_off_epoch'):
        return '--mixup-off-epoch counts from the last epoch'
    return ''


def _flag(name):
    return 'the number of workers' if name == 'workers' else f'--{name.replace("_", "-")}'


def check_checkpoint(
    progress: Progress, path: str, arguments: dict, run: RunFolder, *, task: Task, config: TrainConfig, batches: int
) -> None:
    """Raise a ValueError unless a `run` may go on from the checkpoint at `path`.

    Its `arguments`, `task` and `config`, and the number of `batches` in an epoch, must fit the checkpoint's `progress`.
    """
    if progress.arguments:  # none where fit was called without them, before TrainConfig
        # A flag that is newer than the checkpoint had its default.
        check_arguments({**type(config)().arguments(), **progress.arguments}, arguments, path)
    epoch, batch = progress.epoch, progress.batch
    if epoch > config.num_epochs + 1:
        raise ValueError(
            f'{path} is of a run that has trained {epoch - 1} epochs, more than the {config.num_epochs} asked for; '
            'give --num-epochs as many, or start another run.'
        )
    updates = ((epoch - 1) * batches + batch) // config.accumulate
    required = {'epoch', 'lr', 'loss', task.train_score, task.main_metric}
    records = progress.history + ([progress.best] if progress.best else [])
    if (
        batch > batches
        or batch % config.accumulate
        or progress.updates != updates
        or bool(progress.sums) != bool(batch)
        or progress.sums
        and tuple(progress.sums) != SUMS
        or any(not required <= set(record) or set(record) != set(records[0]) for record in records)
    ):
        raise ValueError(
            f'{path} is damaged: {progress.updates} updates, batch {batch} of {batches} in epoch {epoch} '
            'and its metrics do not fit together; resume from an earlier one.'
        )
    if progress.best and not run.holds_best():
        raise ValueError(
            f'{path} is of a run whose best epoch, {progress.best["epoch"]}, is not in {run.path}; '
            'give the --save-dir of that run, or copy its best.params and model.json.'
        )


__getattr__ = deprecated_names(__name__)
