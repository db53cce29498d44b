"""What several test files share: small data sets, small models, made-up runs and detections."""
