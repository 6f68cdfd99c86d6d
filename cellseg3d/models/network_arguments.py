"""Networks of MONAI that a config may name, each with the arguments it may give.

An argument by which a constructor fetches or opens a file is not among them, such as
``pretrained_url`` of HoVerNet; nor is a network that fetches weights unasked.
"""

_SEGRESNET = (
    "spatial_dims init_filters in_channels out_channels act norm blocks_down blocks_up "
)
_ARGUMENTS = {
    "AHNet": "layers spatial_dims in_channels out_channels psp_block_num upsample_mode",
    "AttentionUnet": "spatial_dims in_channels out_channels channels strides "
    "kernel_size up_kernel_size dropout",
    "BasicUNet": "spatial_dims in_channels out_channels features act norm bias dropout "
    "upsample",
    "BasicUNetPlusPlus": "spatial_dims in_channels out_channels features "
    "deep_supervision act norm bias dropout upsample",
    "DynUNet": "spatial_dims in_channels out_channels kernel_size strides "
    "upsample_kernel_size filters dropout norm_name act_name deep_supervision "
    "deep_supr_num res_block trans_bias",
    "FlexibleUNet": "in_channels out_channels backbone decoder_channels spatial_dims "
    "norm act dropout decoder_bias upsample pre_conv interp_mode is_pad",
    "HighResNet": "spatial_dims in_channels out_channels norm_type acti_type "
    "dropout_prob bias layer_params channel_matching",
    "HoVerNet": "mode in_channels np_out_channels out_classes act norm decoder_padding "
    "dropout_prob",
    "MedNeXt": "spatial_dims init_filters in_channels out_channels "
    "encoder_expansion_ratio decoder_expansion_ratio bottleneck_expansion_ratio "
    "kernel_size deep_supervision use_residual_connection blocks_down "
    "blocks_bottleneck blocks_up norm_type global_resp_norm",
    "SegResNet": _SEGRESNET
    + "dropout_prob norm_name num_groups use_conv_final upsample_mode",
    "SegResNetDS": _SEGRESNET + "dsdepth preprocess upsample_mode resolution",
    "SegResNetDS2": _SEGRESNET + "dsdepth preprocess upsample_mode resolution",
    "SwinUNETR": "in_channels out_channels patch_size depths num_heads window_size "
    "qkv_bias mlp_ratio feature_size norm_name drop_rate attn_drop_rate "
    "dropout_path_rate normalize patch_norm use_checkpoint spatial_dims downsample "
    "use_v2",
    "UNETR": "in_channels out_channels img_size feature_size hidden_size mlp_dim "
    "num_heads proj_type norm_name conv_block res_block dropout_rate spatial_dims "
    "qkv_bias save_attn",
    "UNet": "spatial_dims in_channels out_channels channels strides kernel_size "
    "up_kernel_size num_res_units act norm dropout bias adn_ordering",
    "VNet": "spatial_dims in_channels out_channels act dropout_prob dropout_prob_down "
    "dropout_prob_up dropout_dim bias",
}
NETWORK_ARGUMENTS = {
    name: frozenset(words.split()) for name, words in _ARGUMENTS.items()
}
