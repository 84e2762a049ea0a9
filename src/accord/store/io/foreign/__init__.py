"""Argilla and Label Studio: what other tools keep, as judgments and back.

task             what one row says, whichever tool wrote it: texts, and who said what of them
names            which response a field, a control or a choice means
argilla, label_studio     the shapes of each tool's rows as a task
answers          one rater's values as answers; what can't be read is counted and named
out              a snapshot as rows of either tool
"""
