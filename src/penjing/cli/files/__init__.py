"""Commands about single files, which train nothing: each is one public function.

They write beside the file that they read, or where they are told, and never over a file
that is there unless they are told that too.
"""
