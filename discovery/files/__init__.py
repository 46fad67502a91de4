"""Config objects from folders of YAML and JSON: a read-only source.

`yaml_documents` reads text, `check` judges what it says, `folder_state` decides without I/O what a folder declares,
and `folder` watches the disk.
"""
