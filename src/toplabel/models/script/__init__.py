"""A script, notebook or folder and a checkpoint in; class, preprocessing and names out.

The program of a stranger is read, not run. The files are the way of the data:

  sources.py     .py | .ipynb | Markdown | folder -> `Unit`s: a syntax tree each, with its lines
  project.py     units -> what a name means: definitions, imports of files beside, of libraries
  values.py      what an expression may be: plain data, a library's function, a class, an image
  expressions.py, calls.py   an expression -> its value
  interpret.py   a unit -> values: assignments, calls and loops are followed in the tree, once
  operations.py  what may be done to an image: calls of libraries on a list, on two drawn images
  traces.py      what the network is called with, and what data sets give -> candidates
  recipe.py      a followed way from image to tensor -> a `Preprocess`, compared on drawn photos
  slices.py      a class -> the definitions it needs, and nothing else, in a module of their own
  guard.py       what is stopped meanwhile: files, processes, connections
  networks.py    the tensors of a checkpoint -> the class, or builder, that they fit strictly
  names.py       lists, dicts and data sets -> class names
  named.py       FILE.py:NAME -> the class or function of that name
  resolve.py     all of it -> `ModelOptions` filled in, and the sentence that says what was found

Of the author's code only the class, and the definitions that it needs, are executed, without
files, processes or the network; what images go through are calls of libraries with literal
arguments. What the user states always wins.
"""
