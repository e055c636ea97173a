"""What a search may try, and which of it comes next.

`space` says what one point is as a recipe, `plan` which point follows those before.
Everything here is a function of values, so that a killed search goes on as it would
have. A line goes from little to much that stays, and its edge is where the budget
ends: for what needs no training, then for short trainings, then for full ones.
"""
