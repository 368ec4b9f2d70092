"""Run a script of timm's, unmodified, with our networks known to it by name.

python examples/with_timm.py TIMM/train.py --model iaff_resnet50 ...
"""

import os
import runpy
import sys

from model_zoo.plugins.pytorch import register_with_timm

register_with_timm()
sys.argv.pop(0)
sys.path[0] = os.path.dirname(os.path.abspath(sys.argv[0]))
runpy.run_path(sys.argv[0], run_name='__main__')
