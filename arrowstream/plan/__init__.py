"""The plan: which sample stands at which position of an epoch, and who reads which position.

Both are pure functions in NumPy; nothing here touches a file, a clock or a process.

* :mod:`arrowstream.plan.window`: bytes that may be live -> what the shuffle moves and how much it mixes.
* :mod:`arrowstream.plan.order`: position -> sample id, and back.
* :mod:`arrowstream.plan.schedule`, :mod:`arrowstream.plan.mixing`: position -> stream of a mixture, and position in it.
* :mod:`arrowstream.plan.skips`: an epoch without some of its positions.
* :mod:`arrowstream.plan.partition`: process -> positions.
* :mod:`arrowstream.plan.state`: where an epoch stands -> checkpoint, and back.
* :mod:`arrowstream.plan.epoch_plan`: all of these together, as a dataset asks for them; what every plan can be asked.
* :mod:`arrowstream.plan.positioned`: what plans have in common that know any position alone.
* :mod:`arrowstream.plan.laid_out`: the same questions to the orders of mosaicml-streaming.
* :mod:`arrowstream.plan.arguments`: the arguments of a dataset -> its plan.
* :mod:`arrowstream.plan.view`, :mod:`arrowstream.plan.fingerprint`, :mod:`arrowstream.plan.quality`: for those who ask.
"""
