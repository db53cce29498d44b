"""What both backends must agree on: recipes that compute it, files that store it, rules that compare it.

``scripts/record_parity.py`` runs the recipes on an installed Detectron2 and stores the results below
``tests/stored/parity``; ``test_parity.py`` runs them on whichever backend is active and compares.
"""
