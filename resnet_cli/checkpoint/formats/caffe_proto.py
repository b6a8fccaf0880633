"""The fields of Caffe's files that matter here, and the class which reads them.

Names, numbers and defaults are those of
https://github.com/BVLC/caffe/blob/master/src/caffe/proto/caffe.proto.
"""

from functools import cache
from typing import Any

Message = Any  # the classes are made at run time

Fields = dict[str, tuple[int, str]]

MESSAGES: dict[str, Fields] = {
    "NetParameter": {
        "name": (1, "string"),
        "layers": (2, "V1LayerParameter*"),
        "input": (3, "string*"),
        "input_dim": (4, "int32*"),
        "input_shape": (8, "BlobShape*"),
        "layer": (100, "LayerParameter*"),
    },
    "BlobShape": {"dim": (1, "int64*")},
    # packed floats lie in the file as in an array: as bytes they are read at once
    "BlobProto": {
        "num": (1, "int32"),
        "channels": (2, "int32"),
        "height": (3, "int32"),
        "width": (4, "int32"),
        "data": (5, "bytes*"),
        "shape": (7, "BlobShape"),
        "double_data": (8, "bytes*"),
    },
    "NetStateRule": {"phase": (1, "NetStateRule.Phase"), "stage": (4, "string*")},
    "LayerParameter": {
        "name": (1, "string"),
        "type": (2, "string"),
        "bottom": (3, "string*"),
        "top": (4, "string*"),
        "blobs": (7, "BlobProto*"),
        "include": (8, "NetStateRule*"),
        "exclude": (9, "NetStateRule*"),
        "convolution_param": (106, "ConvolutionParameter"),
        "dropout_param": (108, "DropoutParameter"),
        "eltwise_param": (110, "EltwiseParameter"),
        "inner_product_param": (117, "InnerProductParameter"),
        "pooling_param": (121, "PoolingParameter"),
        "relu_param": (123, "ReLUParameter"),
        "softmax_param": (125, "SoftmaxParameter"),
        "batch_norm_param": (139, "BatchNormParameter"),
        "scale_param": (142, "ScaleParameter"),
        "input_param": (143, "InputParameter"),
    },
    "V1LayerParameter": {
        "bottom": (2, "string*"),
        "top": (3, "string*"),
        "name": (4, "string"),
        "type": (5, "V1LayerParameter.LayerType"),
        "blobs": (6, "BlobProto*"),
        "convolution_param": (10, "ConvolutionParameter"),
        "dropout_param": (12, "DropoutParameter"),
        "inner_product_param": (17, "InnerProductParameter"),
        "pooling_param": (19, "PoolingParameter"),
        "eltwise_param": (24, "EltwiseParameter"),
        "relu_param": (30, "ReLUParameter"),
        "include": (32, "NetStateRule*"),
        "exclude": (33, "NetStateRule*"),
        "softmax_param": (39, "SoftmaxParameter"),
    },
    "ConvolutionParameter": {
        "num_output": (1, "uint32"),
        "bias_term": (2, "bool=true"),
        "pad": (3, "uint32*"),
        "kernel_size": (4, "uint32*"),
        "group": (5, "uint32=1"),
        "stride": (6, "uint32*"),
        "pad_h": (9, "uint32"),
        "pad_w": (10, "uint32"),
        "kernel_h": (11, "uint32"),
        "kernel_w": (12, "uint32"),
        "stride_h": (13, "uint32"),
        "stride_w": (14, "uint32"),
        "dilation": (18, "uint32*"),
    },
    "PoolingParameter": {
        "pool": (1, "PoolingParameter.PoolMethod=MAX"),
        "kernel_size": (2, "uint32*"),
        "stride": (3, "uint32*"),
        "pad": (4, "uint32*"),
        "kernel_h": (5, "uint32"),
        "kernel_w": (6, "uint32"),
        "stride_h": (7, "uint32"),
        "stride_w": (8, "uint32"),
        "pad_h": (9, "uint32"),
        "pad_w": (10, "uint32"),
        "global_pooling": (12, "bool=false"),
        # number 13 is round_mode in one Caffe and ceil_mode in another, with opposite meanings:
        # https://github.com/BVLC/caffe/pull/3057; only as text it is plain which one is meant
        "unclear": (13, "uint32"),
        "ceil_mode": (1013, "bool=true"),
        "round_mode": (2013, "PoolingParameter.RoundMode=CEIL"),
    },
    "BatchNormParameter": {"use_global_stats": (1, "bool"), "eps": (3, "float=1e-5")},
    "ScaleParameter": {
        "axis": (1, "int32=1"),
        "num_axes": (2, "int32=1"),
        "bias_term": (4, "bool=false"),
    },
    "InnerProductParameter": {
        "num_output": (1, "uint32"),
        "bias_term": (2, "bool=true"),
        "axis": (5, "int32=1"),
        "transpose": (6, "bool=false"),
    },
    "EltwiseParameter": {
        "operation": (1, "EltwiseParameter.EltwiseOp=SUM"),
        "coeff": (2, "float*"),
    },
    "ReLUParameter": {"negative_slope": (1, "float=0")},
    "SoftmaxParameter": {"axis": (2, "int32=1")},
    "DropoutParameter": {"dropout_ratio": (1, "float=0.5")},
    "InputParameter": {"shape": (1, "BlobShape*")},
}
"""Fields that matter here, by message: number and type; ``*`` repeated, ``=`` the default."""

ENUMS = {
    "NetStateRule.Phase": ("TRAIN", "TEST"),
    "PoolingParameter.PoolMethod": ("MAX", "AVE", "STOCHASTIC"),
    "PoolingParameter.RoundMode": ("CEIL", "FLOOR"),
    "EltwiseParameter.EltwiseOp": ("PROD", "SUM", "MAX"),
    "V1LayerParameter.LayerType": (
        "NONE", "ACCURACY", "BNLL", "CONCAT", "CONVOLUTION", "DATA", "DROPOUT", "EUCLIDEAN_LOSS",
        "FLATTEN", "HDF5_DATA", "HDF5_OUTPUT", "IM2COL", "IMAGE_DATA", "INFOGAIN_LOSS",
        "INNER_PRODUCT", "LRN", "MULTINOMIAL_LOGISTIC_LOSS", "POOLING", "RELU", "SIGMOID",
        "SOFTMAX", "SOFTMAX_LOSS", "SPLIT", "TANH", "WINDOW_DATA", "ELTWISE", "POWER",
        "SIGMOID_CROSS_ENTROPY_LOSS", "HINGE_LOSS", "MEMORY_DATA", "ARGMAX", "THRESHOLD",
        "DUMMY_DATA", "SLICE", "MVN", "ABSVAL", "SILENCE", "CONTRASTIVE_LOSS", "EXP",
        "DECONVOLUTION",
    ),
}  # fmt: skip
"""Words that a field may hold, each with its place as its number."""


@cache
def net_parameter() -> Message:
    """The class of a NetParameter, made at the first use: no one else waits for protobuf."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    file = descriptor_pb2.FileDescriptorProto(name="caffe.proto", package="caffe")
    for name, fields in MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, (number, kind) in fields.items():
            add_field(message, field, number, kind)
    messages = {message.name: message for message in file.message_type}
    for path, words in ENUMS.items():
        owner, name = path.split(".")
        enum = messages[owner].enum_type.add(name=name)
        for number, word in enumerate(words):
            enum.value.add(name=word, number=number)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("caffe.NetParameter"))


def add_field(message: Message, name: str, number: int, kind: str) -> None:
    """Add a field to the description of a message."""
    kind, _, default = kind.partition("=")
    single = kind.removesuffix("*")
    field = message.field.add(name=name, number=number)
    field.label = field.LABEL_OPTIONAL if kind == single else field.LABEL_REPEATED
    if single in MESSAGES or single in ENUMS:
        field.type = field.TYPE_MESSAGE if single in MESSAGES else field.TYPE_ENUM
        field.type_name = f".caffe.{single}"
    else:
        field.type = getattr(field, f"TYPE_{single.upper()}")
    if default:
        field.default_value = default
