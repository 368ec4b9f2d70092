"""Run a script of GluonCV's, unmodified, with our networks known to it by name.

python examples/with_gluoncv.py SCRIPT.py --model iaff_resnet50 ...
"""

import os
import runpy
import sys

from model_zoo import register_with_gluoncv

register_with_gluoncv()
sys.argv.pop(0)
sys.path[0] = os.path.dirname(os.path.abspath(sys.argv[0]))
runpy.run_path(sys.argv[0], run_name='__main__')
