"""The plan: which sample stands at which position of an epoch, and who reads which position.

Both are pure functions in NumPy; nothing here touches a file, a clock or a process.

* :mod:`arrowstream.plan.order`: position -> sample id.
* :mod:`arrowstream.plan.schedule`, :mod:`arrowstream.plan.mixing`: position -> stream of a mixture, and position in it.
* :mod:`arrowstream.plan.partition`: process -> positions.
* :mod:`arrowstream.plan.state`: where an epoch stands -> checkpoint, and back.
"""
