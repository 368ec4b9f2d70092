"""A run's arguments: which of them a resumed run must share, and the command lines that start it again."""

from __future__ import annotations

import functools
import os
import re
import shlex

from ..validation import shown

__all__ = ['check_arguments', 'launched', 'naming_flags', 'resuming', 'run_arguments', 'starting']

# Arguments that may differ in a resumed run: its results do not depend on them, or the data set is compared instead.
FREE = (
    'save_dir',
    'resume',
    'overwrite',
    'keep',
    'tensorboard',
    'num_workers',
    'patience',
    'command',
    'given',
    'data_dir',
    'rec_train',
    'rec_train_idx',
    'rec_val',
    'rec_val_idx',
    'train_image_dir',
    'train_annotations',
    'val_image_dir',
    'val_annotations',
)
# Schedules whose rates do not depend on the number of epochs that follow.
OPEN_ENDED = ('constant', 'step')
# Arguments of the library, as the scripts' flags spell them.
FLAGS = {
    'batch_size': '--batch-size',
    'val_fraction': '--val-fraction',
    'start_stage': '--start-layer',
    'final_drop': '--drop-rate',
    'last_gamma': '--last-gamma',
    'crop_ratio': '--crop-ratio',
    'base_size': '--base-size',
    'crop_size': '--input-size',
}


def run_arguments(args, workers, data=None):
    """What a run's results depend on, by name, as its checkpoints hold it.

    Parameters
    ----------
    args : argparse.Namespace
    workers : Workers
    data : dict, optional
        From :func:`gluon_aff.data.fingerprint.identity`.
    """
    return {
        **{name: value for name, value in vars(args).items() if name not in FREE},
        'workers': workers.size,
        **(data or {}),
    }


def check_arguments(saved, given, path):
    """Raise a ValueError that names the differences between a checkpoint's run and this one.

    The number of epochs may differ where the learning rates do not depend on it.

    Parameters
    ----------
    saved, given : dict
        From :func:`run_arguments`.
    path : str
        Of the checkpoint.
    """
    if 'classes' in saved and 'classes' in given:
        difference = _other_data(saved, given)
        if difference:
            raise ValueError(
                f'{path} is from a run on another data set ({difference}); name the same one, which '
                'may have moved, or start another run in another --save-dir.'
            )
    unlike = [name for name in sorted({*saved, *given} - {'classes', 'images'}) if saved.get(name) != given.get(name)]
    if unlike == ['num_epochs'] and type(saved.get('num_epochs')) is int:
        obstacle = _obstacle(saved)
        if not obstacle:
            return
        raise ValueError(
            f'{path} is from a run with --num-epochs {saved["num_epochs"]}, which cannot become '
            f'{given["num_epochs"]}, as {obstacle}; start another run, in another --save-dir, from its '
            'best.params (--use-pretrained) where the script takes them.'
        )
    if unlike:
        differences = '; '.join(
            f'{_flag(name)[:80]} was {shown(saved.get(name))} and is {shown(given.get(name))}' for name in unlike[:9]
        )
        raise ValueError(
            f'{path} is from a run with other arguments ({differences}); resume with the same, or start '
            'another run in another --save-dir.'
        )


def _other_data(saved, given):
    before, now = saved['classes'], given['classes']
    if not isinstance(before, list) or len(before) != len(now):
        return f'the number of its classes was {len(before) if isinstance(before, list) else None} and is {len(now)}'
    for number, (old, new) in enumerate(zip(before, now)):
        if old != new:
            return f'its class {number} was {shown(old)} and is {shown(new)}'
    return '' if saved.get('images') == given.get('images') else 'the list of its images has changed'


def _obstacle(saved):
    """Why the epochs that a run has done would have been others in a longer run; '' where they would not."""
    mode, epochs = saved.get('lr_mode'), saved['num_epochs']
    period, decays = saved.get('lr_decay_period'), saved.get('lr_decay_epoch') or ()
    if mode not in OPEN_ENDED:
        return f'--lr-mode {mode} ends with the last epoch'
    if mode == 'step' and (epochs % period == 0 if period else epochs in decays):
        return f'--lr-mode step decays at epoch {epochs}'
    if saved.get('warmup_epochs', 0) >= epochs:
        return 'its warm-up was shortened'
    if saved.get('mixup') and saved.get('mixup_off_epoch'):
        return '--mixup-off-epoch counts from the last epoch'
    return ''


def _flag(name):
    return 'the number of workers' if name == 'workers' else f'--{name.replace("_", "-")}'


def naming_flags(main):
    """Decorate a script's `main(argv)`, so that errors of the library name the flags in place of its own arguments.

    Parameters
    ----------
    main : callable
    """

    @functools.wraps(main)
    def wrapped(argv):
        try:
            return main(argv)
        except (ValueError, FileNotFoundError) as error:
            text = str(error)
            named = re.sub(rf'(?<![\w/.-])(?:{"|".join(FLAGS)})(?![\w/.-])', lambda match: FLAGS[match[0]], text)
            if named == text:
                raise
            raise type(error)(named) from None

    return wrapped


def starting(argv):
    """A script's arguments without --resume and --overwrite.

    Parameters
    ----------
    argv : list of str
    """
    kept, after_resume = [], False
    for flag in argv:
        dropped = flag in ('--resume', '--overwrite') or flag.startswith('--resume=')
        if not dropped and not (after_resume and not flag.startswith('-')):
            kept.append(flag)
        after_resume = flag == '--resume'
    return kept


def resuming(argv):
    """A script's arguments, to go on with the latest checkpoint.

    Parameters
    ----------
    argv : list of str
    """
    return [*starting(argv), '--resume']


def launched(command):
    """A command as one line, behind the launcher that this process was started by, if any.

    Parameters
    ----------
    command : list of str
    """
    before = []
    if os.environ.get('DMLC_ROLE'):
        # gluon_aff.train.launch passes its own call on in the environment, which ssh does not forward.
        before = shlex.split(os.environ.get('GLUON_AFF_LAUNCHER', '')) or [
            'python',
            '-m',
            'gluon_aff.train.launch',
            '-n',
            os.environ.get('DMLC_NUM_WORKER', ''),
            '-s',
            os.environ.get('DMLC_NUM_SERVER', ''),
            '--launcher',
            'ssh',
            '-H',
            'hosts',
        ]
    elif 'HOROVOD_SIZE' in os.environ:
        before = ['horovodrun', '-np', os.environ['HOROVOD_SIZE']]
    return shlex.join([*before, *command])
