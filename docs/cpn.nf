// A Nextflow process: images in, label images and tables of cells out.
//
//     include { CPN } from './docs/cpn.nf'
//     workflow {
//         images = Channel.fromPath('images/*.tif')
//         CPN(images.map { image -> [[id: image.baseName], image] })
//     }
//
// The container is the one of the Dockerfile (docker build -t cpn .). task.ext.args has further
// options of predict.sh, as '--preview' or '--export geojson'; what they write is for `publishDir`
// or an output of your own. A task may have several images and starts the program once, which takes
// 2 s; one that cannot be done makes it fail when the others are done, so give those you do not
// trust tasks of their own. 4 GB of memory are enough for 88 million pixels, and without previews,
// exports and measures for TIFF of any size; a GPU is used if it is there.
// Nextflow itself could not be had where this was written: tests/test_nextflow.py runs the script
// with the real command, and checks what it leaves against the outputs.

process CPN {
    tag "$meta.id"
    label 'process_medium'
    memory '4 GB'
    container 'cpn'

    input:
    tuple val(meta), path(images, stageAs: 'inputs/*')

    output:
    tuple val(meta), path('labels/*_label.tiff'), emit: labels
    tuple val(meta), path('labels/*_cells.csv'), emit: tables
    tuple val(meta), path('labels/summary.csv'), emit: summary
    path 'versions.yml', emit: versions

    script:
    def args = task.ext.args ?: ''
    """
    sh /workspace/predict.sh inputs labels --cells --threads $task.cpus $args

    cat <<-END_VERSIONS > versions.yml
    "$task.process":
        cpn: \$(sh /workspace/predict.sh --version | sed 's/^cpn //')
    END_VERSIONS
    """
}
