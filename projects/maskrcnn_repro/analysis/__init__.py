"""Where a model errs: errors by kind, what each costs, and the page that shows them."""
