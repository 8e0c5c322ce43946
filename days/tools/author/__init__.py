"""The author's tools: refresh what is generated, record a run."""
