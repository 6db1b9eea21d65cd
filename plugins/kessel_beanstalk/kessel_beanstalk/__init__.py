"""beanstalkd as a queue for kessel; `plugin.py` is what kessel finds."""
