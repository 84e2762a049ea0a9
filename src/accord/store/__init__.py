from accord.store._interim import *
from accord.store._interim import Store, split_of, import_file, summarise, export
