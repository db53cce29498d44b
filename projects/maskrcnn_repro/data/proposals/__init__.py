"""Proposals of a region proposal network, stored for detectors that are trained on them (Sec. 3.1).

The paper's ablations train the RPN apart and share no features with it. So an experiment has two stages:
an RPN writes its proposals into a store, detectors read them from there.
"""
