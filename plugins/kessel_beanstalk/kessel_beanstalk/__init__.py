"""beanstalkd as a queue for kessel, which finds it through `plugin.py`."""
