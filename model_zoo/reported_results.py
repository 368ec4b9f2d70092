"""Results that others report of the networks; none was measured here."""

from __future__ import annotations

from dataclasses import dataclass

from gluon_aff._deprecated import deprecated_names, renamed

from .baselines import BASELINES

__all__ = ['HOSTS', 'LOGS', 'REPORTED', 'TABLES', 'Host', 'Reported', 'Result', 'Table', 'table_results']


@dataclass(frozen=True)
class Result:
    """A reported result of a network.

    Attributes
    ----------
    metric : str
        'top-1 error', 'top-5 error', 'accuracy' or 'mIoU'.
    percent : float
    data : str
        The data set and its labels.
    source : str
        Who reports it.
    options : str
        The options of that network where they differ from the registered one's: 'width=1, reduction=2'.
    """

    metric: str
    percent: float
    data: str
    source: str
    options: str = ''

    @property
    def error(self) -> float | None:
        """Top-1 error in per cent; None for an mIoU or a top-5 error."""
        return {'top-1 error': self.percent, 'accuracy': round(100 - self.percent, 4)}.get(self.metric)

    def __str__(self):
        """Such as 'accuracy 76.3 % on CIFAR-100, coarse labels (width=1, reduction=2)'."""
        options = f' ({self.options})' if self.options else ''
        return f'{self.metric} {round(self.percent, 2):g} % on {self.data}{options}'


@dataclass(frozen=True)
class Reported:
    """What others report of a network; results of different sources come from different recipes.

    Attributes
    ----------
    results : tuple of Result
    parameters : float or None
        As printed, in millions.
    counted : str
        How they were counted.
    parameters_source : str
        Who reports the number of parameters.
    """

    results: tuple[Result, ...] = ()
    parameters: float | None = None
    counted: str = ''
    parameters_source: str = ''

    figures = renamed('results')

    @property
    def top1(self) -> Result | None:
        """The first top-1 error on ImageNet."""
        return next((result for result in self.results if result.metric == 'top-1 error'), None)

    @property
    def top1_error(self) -> float | None:
        """Its value in per cent."""
        return self.top1.percent if self.top1 else None

    @property
    def source(self) -> str:
        """Who reports the top-1 error and the parameters; '' if nobody does."""
        sources = [self.top1.source] if self.top1 else []
        return '; '.join(dict.fromkeys([*sources, *([self.parameters_source] if self.parameters else [])]))


IMAGENET = 'ImageNet-1k'
FINE, COARSE = (f'CIFAR-100, {labels} labels' for labels in ('fine', 'coarse'))
SLIDES = "table in the AFF authors' slides"
LOG = "the AFF authors' released log"
PAPER = 'Dai et al., Attentional Feature Fusion, WACV 2021'

BINARY = 'with the classifier, in units of 2^20 (without it, in units of 10^6, the figure is the same by chance)'
ROUNDED = 'with the classifier, rounded'
ROUNDED_UP = 'with the classifier, rounded up'
CUT_OFF = 'with the classifier, cut off'

# From the slides and the SKNet paper: top-1 error, parameters, how they were counted, the source.
COMPARISON = {
    'resnet101': (23.2, 42.5, BINARY, f'{SLIDES}, from the ECA-Net paper'),
    'eca_resnet101': (21.4, 42.5, BINARY, f'{SLIDES}, from the ECA-Net authors'),
    'aa_resnet101': (21.3, 45.4, ROUNDED, f'{SLIDES}, from the AA paper'),
    'se_resnet101': (20.9, 49.4, ROUNDED_UP, f'{SLIDES}, from the gather-excite paper'),
    'ge_theta_plus_resnet101': (20.7, 58.4, ROUNDED_UP, f'{SLIDES}, from the gather-excite paper'),
    'lip_resnet101': (20.7, 42.9, ROUNDED, f'{SLIDES}, from the LIP authors'),
    'sk_resnet50': (None, 27.5, ROUNDED, 'SKNet paper'),
    'iaff_resnet50': (20.2, 35.1, CUT_OFF, SLIDES),
    'iaff_resnext50_32x4d': (19.8, 34.7, CUT_OFF, SLIDES),
}

# From the logs of the authors' released files, by network and tag; the catalogue uses them.
LOGS = {
    ('aff_resnet50', 'imagenet'): {'top1_error': 0.202803, 'top5_error': 0.052674},
    ('aff_resnext50_32x4d', 'imagenet'): {'top1_error': 0.202766, 'top5_error': 0.052934},
    ('iaff_resnet50', 'imagenet'): {'top1_error': 0.202159, 'top5_error': 0.054587},
    ('iaff_resnext50_32x4d', 'imagenet'): {'top1_error': 0.197829, 'top5_error': 0.051889},
    ('cifar_aff_resnet32', 'fine'): {'accuracy': 0.8357},
    ('cifar_aff_resnet32', 'coarse'): {'accuracy': 0.9078},
    ('cifar_aff_resnext38_32x4d', 'coarse'): {'accuracy': 0.9123},
    ('cifar_aff_resnext47_32x4d', 'fine'): {'accuracy': 0.8538},
    ('cifar_aff_resnext47_32x4d', 'coarse'): {'accuracy': 0.9184},
}
METRICS = {'top1_error': 'top-1 error', 'top5_error': 'top-5 error', 'accuracy': 'accuracy'}
TAGS = {'imagenet': IMAGENET, 'fine': FINE, 'coarse': COARSE}


@dataclass(frozen=True)
class Host:
    """A column of the paper's tables.

    Attributes
    ----------
    title, data, metric : str
    name : str
        Of its networks, with {fusion} and, where it has b blocks a stage, {depth} = 6b + 2.
    options : str
        Of its networks, where the registered ones have others by default.
    conditions : str
        How the results were obtained.
    """

    title: str
    name: str
    data: str
    metric: str
    options: str
    conditions: str


CIFAR = (COARSE, 'accuracy', 'width=1', '50,000 training images, 400 epochs, one figure each')
HOSTS = {
    'inception': Host('Inception-ResNet-20-b', 'cifar_{fusion}_inception_resnet{depth}', *CIFAR),
    'resnet': Host('ResNet-20-b', 'cifar_{fusion}_resnet{depth}', *CIFAR),
    'fpn': Host(
        'ResNet-20-b + FPN',
        'fpn_{fusion}_resnet{depth}',
        'StopSign',
        'mIoU',
        '',
        'COCO images with a stop sign, 300 epochs, one figure each',
    ),
    'resnet50': Host('ResNet-50', '{fusion}_resnet50', IMAGENET, 'accuracy', '', '160 epochs, one figure each'),
}


@dataclass(frozen=True)
class Table:
    """A table of the paper.

    Attributes
    ----------
    title : str
    rows : dict
        By the name of the fusion: (label, {host: results in per cent, for b = 1, 2, ...}).
    """

    title: str
    rows: dict

    @property
    def hosts(self) -> list[str]:
        """Names of the hosts in it, in the order of `HOSTS`."""
        return [host for host in HOSTS if any(host in values for _, values in self.rows.values())]


# fmt: off
TABLES = (
    Table('Table 3, context scale', {
        'global_aff': ('global + global', {
            'inception': (73.5, 76.6, 77.5, 78.9), 'resnet': (75.4, 79.6, 81.1, 82.1),
            'fpn': (91.1, 92.3, 93.6, 93.9), 'resnet50': (77.7,),
        }),
        'local_aff': ('local + local', {
            'inception': (74.6, 77.1, 78.5, 78.7), 'resnet': (75.4, 79.4, 80.8, 81.4),
            'fpn': (89.5, 91.9, 92.1, 92.4), 'resnet50': (78.0,),
        }),
        'aff': ('global + local (AFF)', {
            'inception': (75.6, 78.4, 79.4, 80.1), 'resnet': (76.3, 80.4, 81.6, 82.6),
            'fpn': (92.4, 93.5, 93.9, 94.4), 'resnet50': (78.4,),
        }),
    }),
    Table('Table 4, fusion strategy', {
        'add': ('Add', {
            'inception': (72.0, 75.3, 77.1, 78.2), 'resnet': (74.0, 78.6, 79.7, 80.8),
            'fpn': (89.5, 92.0, 92.5, 92.8),
        }),
        'concat': ('Concat', {
            'inception': (72.5, 74.9, 77.2, 77.9), 'resnet': (74.2, 78.2, 79.3, 79.8),
            'fpn': (89.7, 90.9, 92.5, 93.9),
        }),
        'ms_gau': ('MS-GAU', {
            'inception': (75.1, 77.4, 78.8, 79.5), 'resnet': (76.6, 80.3, 81.5, 81.9),
            'fpn': (91.7, 92.6, 93.7, 94.1),
        }),
        'ms_se': ('MS-SE', {
            'inception': (75.2, 78.0, 79.0, 79.8), 'resnet': (76.5, 79.9, 81.4, 82.0),
            'fpn': (91.5, 92.9, 94.0, 94.0),
        }),
        'ms_sa': ('MS-SA', {
            'inception': (75.6, 77.9, 79.0, 79.8), 'resnet': (76.1, 80.1, 81.4, 82.2),
            'fpn': (92.0, 93.2, 93.8, 94.1),
        }),
        'sk': ('SK', {}),
        'highway': ('Highway', {}),
        'aff': ('AFF', {
            'inception': (75.6, 78.4, 79.4, 80.1), 'resnet': (76.3, 80.4, 81.6, 82.6),
            'fpn': (92.4, 93.5, 93.9, 94.4),
        }),
        'iaff': ('iAFF', {
            'inception': (77.4, 80.1, 80.8, 81.4), 'resnet': (77.2, 80.7, 82.2), 'fpn': (92.7, 93.8, 94.5, 95.3),
        }),
    }),
    Table('Table 6, ways to mix the contexts', {
        'half_aff': ('Half', {'resnet': (75.9, 79.8, 81.3)}),
        'concat_aff': ('Concat', {'resnet': (76.5, 79.2, 81.7)}),
        'aff': ('AFF', {'resnet': (76.4, 79.9, 81.6)}),
        'recursive_aff': ('Recursive', {'resnet': (76.4, 79.7, 81.2)}),
        'iaff': ('Iterative (iAFF)', {'resnet': (77.2, 80.7, 82.2)}),
    }),
)
# fmt: on
# The paper's reductions in tables 3 and 4 where the hosts' differ; they equalise the numbers of parameters.
REDUCTIONS = dict.fromkeys(('ms_gau', 'ms_se', 'ms_sa', 'aff', 'global_aff', 'local_aff'), 2)


def table_results() -> list[tuple[str, Result]]:
    """The results in the paper's tables: tuples of a network's name, registered or not, and a Result."""
    titles = {}
    for table in TABLES:
        for fusion, (_, columns) in table.rows.items():
            for host, values in columns.items():
                for b, percent in enumerate(values, start=1):
                    name = HOSTS[host].name.format(fusion=fusion, depth=6 * b + 2)
                    reduction = REDUCTIONS.get(fusion) if table is not TABLES[2] and host != 'resnet50' else None
                    options = ', '.join(filter(None, [HOSTS[host].options, reduction and f'reduction={reduction}']))
                    metric = HOSTS[host].metric
                    if host == 'resnet50':
                        metric, percent = 'top-1 error', round(100 - percent, 1)
                    key = name, metric, percent, HOSTS[host].data, options
                    titles.setdefault(key, []).append(table.title.split(',')[0].lower())
    return [
        (name, Result(metric, percent, data, f'{PAPER}, {" and ".join(tables)}', options))
        for (name, metric, percent, data, options), tables in titles.items()
    ]


def _collect():
    """What is reported of each network, by name: comparison, logs, other libraries, the paper's tables."""
    results = {
        name: [Result('top-1 error', error, IMAGENET, source)] if error else []
        for name, (error, _, _, source) in COMPARISON.items()
    }
    for (name, tag), values in LOGS.items():
        results.setdefault(name, []).extend(
            Result(METRICS[metric], round(100 * value, 4), TAGS[tag], LOG) for metric, value in values.items()
        )
    for baseline in BASELINES:
        if baseline.network:
            results.setdefault(baseline.network, []).extend(
                Result(f'top-{k} error', round(100 - accuracy, 4), IMAGENET, baseline.source)
                for k, accuracy in ((1, baseline.top1), (5, baseline.top5))
            )
    for name, result in table_results():
        results.setdefault(name, []).append(result)
    return {name: Reported(tuple(listed), *COMPARISON.get(name, ())[1:]) for name, listed in results.items()}


# By name; a name that is not registered, such as cifar_ms_se_resnet8, is a host's with fusion=.
REPORTED = _collect()

__getattr__ = deprecated_names(__name__)
