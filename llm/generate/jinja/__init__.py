"""The part of Jinja that chat templates use: values, expressions, programs."""
