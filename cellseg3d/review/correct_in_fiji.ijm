// Correct the pieces of a review in Fiji or ImageJ.
//
// Install it once per session: Plugins > Macros > Install..., and choose this file. The
// commands then stand in Plugins > Macros, and have these keys:
//
//   n       save this piece and open the next one: the labels, with the image over them
//   s       save the labels as they are
//   i       hide or show the image
//   0 to 7  paint with this label value, or fill the selection with it
//   9       the same with 255, "not annotated"
//
// A piece is saved with the name, type, pixel size and values that it had.

var labels = "";  // The name of the piece's labels, as its window is called.
var folder = "";
var OPACITY = 60;

macro "Open the next piece [n]" {
    if (isOpen(labels)) { savePiece(); closePiece(); }
    openAfter(labels);
}

macro "Save this piece [s]" { savePiece(); }

macro "Hide or show the image [i]" {
    selectPiece();
    if (Overlay.hidden) Overlay.show; else Overlay.hide;
}

macro "Paint value 0, background [0]" { paint(0); }
macro "Paint value 1 [1]" { paint(1); }
macro "Paint value 2 [2]" { paint(2); }
macro "Paint value 3 [3]" { paint(3); }
macro "Paint value 4 [4]" { paint(4); }
macro "Paint value 5 [5]" { paint(5); }
macro "Paint value 6 [6]" { paint(6); }
macro "Paint value 7 [7]" { paint(7); }
macro "Paint 255, not annotated [9]" { paint(255); }

macro "Choose another review" {
    if (isOpen(labels)) { savePiece(); closePiece(); }
    folder = getDirectory("The folder that cellseg3d review wrote");
    openAfter("");
}

// Fill the selection with a value. Without one, set the brush to it: the first values
// have colours of their own, so the brush writes the value that has the colour.
function paint(value) {
    selectPiece();
    if (selectionType() >= 0) {
        setColor(value);
        fill();
        run("Select None");
        return;
    }
    getLut(reds, greens, blues);
    setForegroundColor(reds[value], greens[value], blues[value]);
    setTool("Paintbrush Tool");
    showStatus("Paint with " + value);
}

function selectPiece() {
    if (!isOpen(labels)) exit("Open a piece first: press n.");
    selectWindow(labels);
}

// The image lies over the labels only on the screen; the file must not hold it.
function savePiece() {
    selectPiece();
    run("Select None");
    hidden = Overlay.hidden;
    Overlay.remove;
    saveAs("Tiff", folder + labels);
    layImageOver();
    if (hidden) Overlay.hide;
}

function closePiece() {
    selectWindow(labels);
    close();
    image = replace(labels, "_labels.tif", ".tif");
    if (isOpen(image)) { selectWindow(image); close(); }
}

function openAfter(last) {
    if (folder == "") folder = call("ij.Prefs.get", "cellseg3d.review", "");
    if (folder == "" || !File.exists(folder + "review.json"))
        folder = getDirectory("The folder that cellseg3d review wrote");
    if (!File.exists(folder + "review.json"))
        exit("This folder holds no review.json; choose the one that cellseg3d review wrote.");
    call("ij.Prefs.set", "cellseg3d.review", folder);
    files = getFileList(folder);
    Array.sort(files);
    first = 0;
    for (i = 0; i < files.length; i++) {
        if (files[i] == last) first = i + 1;
    }
    for (i = first; i < files.length; i++) {
        if (endsWith(files[i], "_labels.tif")) {
            openPiece(files[i]);
            return;
        }
    }
    labels = "";
    showMessage("cellseg3d", "That was the last piece. Now run: cellseg3d review merge");
}

function openPiece(name) {
    labels = name;
    image = replace(name, "_labels.tif", ".tif");
    open(folder + image);
    rename(image);
    run("Enhance Contrast", "saturated=0.35");
    open(folder + labels);
    rename(labels);
    layImageOver();
}

function layImageOver() {
    image = replace(labels, "_labels.tif", ".tif");
    selectWindow(labels);
    if (isOpen(image)) run("Add Image...", "image=[" + image + "] x=0 y=0 opacity=" + OPACITY);
}
