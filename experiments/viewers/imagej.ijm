// The argument: an image, a zip of regions of interest, where the picture goes; a line each.
parts = split(getArgument(), "\n");
open(parts[0]);
setLocation(260, 90);
roiManager("Open", parts[1]);
roiManager("Show All without labels");
selectWindow("ROI Manager");
setLocation(10, 90);
wait(2000);
run("Capture Screen");
saveAs("PNG", parts[2]);
run("Quit");
