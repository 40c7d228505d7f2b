"""Print what is installed, or try every operator.

python -m helpers.measurements environment
python -m helpers.measurements operators [FILE]
"""

import sys

from helpers.measurements import device_report, environment

if sys.argv[1:2] == ["operators"]:
    raise SystemExit(device_report.main(sys.argv[2:]))
raise SystemExit(environment.main())
