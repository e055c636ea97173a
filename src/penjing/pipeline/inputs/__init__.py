"""What a run is given: model and data, checked before anything is trained."""
