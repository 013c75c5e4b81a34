"""The page in the browser that `vatt serve` opens: search by words or by a dropped file, hits as playing clips.

page.html   the page: one file, nothing fetched from elsewhere
app.py      what the page asks for
library.py  which files may be shown, and how a browser can play them
guard.py    who may ask
run.py      the socket and the loop
"""
