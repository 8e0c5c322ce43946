"""The course as data: its days, which file belongs to which, what is generated, copies of it."""
