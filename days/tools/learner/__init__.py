"""The learner's tools: map, progress, tags, exercises, drills, practice."""
