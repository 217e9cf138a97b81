-- Rhetor's module file for Lmod. It finds the installation from its own place, so that the folder may
-- be moved:  module use PREFIX/share/modulefiles && module load rhetor
help([[Rhetor: pretraining, supervised fine-tuning, reward model and PPO of small GPT models on CPUs.
"rhetor" lists the commands; recipes are in share/rhetor/configs.]])
whatis("Name: Rhetor")
whatis("Version: @VERSION@")
whatis("Description: trains GPT models end to end on CPUs, over MPI")
conflict("rhetor")
local root = myFileName():gsub("/share/modulefiles/.*", "")
-- depends_on("openmpi")  -- the modules that it was built with, as the site calls them
setenv("RHETOR_DIR", root)
prepend_path("PATH", pathJoin(root, "bin"))
prepend_path("MANPATH", pathJoin(root, "share/man"))
