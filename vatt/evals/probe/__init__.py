"""Probes: simple classifiers on a frozen model's features, by the protocols that results are published with.

recipes      the protocols as data: data sets with their official folds, and how each classifier is trained
splits       what is trained and tested on
features     features of clips, seen through training passes or test windows
classifiers  linear SVM, logistic regression, low-rank softmax
run          puts them together, and gives named numbers
"""

from vatt.evals.probe.recipes import PROBES as PROBES
from vatt.evals.probe.recipes import Probe as Probe
from vatt.evals.probe.recipes import Recipe as Recipe
from vatt.evals.probe.recipes import recipe as recipe
from vatt.evals.probe.report import Report as Report
from vatt.evals.probe.report import write_report as write_report
from vatt.evals.probe.run import fresh as fresh
from vatt.evals.probe.run import probe_source as probe_source
from vatt.evals.probe.run import run_folds as run_folds
from vatt.evals.probe.splits import Fold as Fold
from vatt.evals.probe.splits import published as published
from vatt.evals.probe.splits import split_of as split_of
